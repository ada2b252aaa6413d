//! Arguments that make no sense, by themselves or together, and what to write instead.

use super::{
    args::{Bench, Contract, Scenario},
    plan::Senseless,
};
use crate::cli::{args::DEFAULT_SERVER, client::shown, text};

/// An address that can be used. What stands in it before the host is not repeated: it may be a password.
pub(super) fn server(url: &str) -> Result<(), Senseless> {
    let refuse = |why: &str| {
        let shown = text::line(&shown(url));
        Err(Senseless(format!("--server is {shown}: {why}, for example {DEFAULT_SERVER}")))
    };
    let uri: Option<http::Uri> = url.parse().ok();
    let known = |scheme: &str| ["http", "https", "tcp", "nats"].contains(&scheme);
    let parts = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    match parts {
        Some((scheme, authority)) if known(scheme) && !authority.host().is_empty() => {
            if scheme != "nats" && authority.as_str().contains('@') {
                return refuse(
                    "a name and a password before the host are for nats:// only; write the host alone",
                );
            }
            Ok(())
        }
        _ => refuse("write http://, https://, tcp:// or nats:// and a host"),
    }
}

/// What would be ignored is refused.
pub(super) fn options(args: &Bench) -> Result<(), Senseless> {
    let refuse = |what: &str| {
        let name = args.scenario.name();
        Err(Senseless(format!("`{name}` does not know {what}: leave it out")))
    };
    let is_silent = matches!(args.scenario, Scenario::Idle | Scenario::Storm);
    let has_messages = matches!(args.scenario, Scenario::Messages | Scenario::Answers | Scenario::Resumes);
    match args {
        Bench { rate: Some(_), .. } if is_silent => refuse("--rate"),
        Bench { in_flight: Some(_), .. } if is_silent => refuse("--in-flight"),
        Bench { duration: Some(_), scenario: Scenario::Storm, .. } => refuse("--duration"),
        Bench { warm_up: Some(_), .. } if !has_messages => refuse("--warm-up"),
        Bench { payload: Some(_), .. } if !has_messages => refuse("--payload"),
        Bench { llm, scenario, .. } if !llm.is_empty() && *scenario != Scenario::Answers => refuse("--llm"),
        _ => Ok(()),
    }
}

/// What only some scenarios can do.
pub(super) fn scenario(args: &Bench) -> Result<(), Senseless> {
    if args.url.starts_with("nats://") && args.scenario != Scenario::Messages {
        return Err(Senseless(
            "nats:// knows neither members nor answers: only `messages` can be measured there".into(),
        ));
    }
    let needs_salon = matches!(args.scenario, Scenario::Answers | Scenario::Resumes | Scenario::Storm);
    if needs_salon && args.contract == Contract::Original {
        let name = args.scenario.name();
        return Err(Senseless(format!("the original contract does not have what `{name}` measures")));
    }
    if args.scenario == Scenario::Answers && !args.url.starts_with("http") {
        return Err(Senseless("`answers` needs a server with LLMs, at http:// or https://".into()));
    }
    if args.scenario != Scenario::Storm && (!args.spread.is_zero() || args.at_once) {
        return Err(Senseless("--spread and --at-once are for `storm` only".into()));
    }
    Ok(())
}
