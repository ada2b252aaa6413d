//! What the documents state in tables is what the code does, and what they name is there.

use std::{collections::BTreeSet, fs, path::Path};

use clap::CommandFactory as _;

use salon::{
    domain::rejection::{Code, Rejection},
    grpc::status,
    wire::{pb::room::v1 as pb, reply::ClosingReason},
};

use crate::process::Place;

/// Documents whose paths and keys are checked.
const DOCUMENTS: [&str; 11] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/limits.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/permissions.md",
    "docs/protocol.md",
    "docs/adr/README.md",
];

/// From where documents name files.
const PLACES: [&str; 3] = ["", "src", "tests/salon"];

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows behind a mark, without the two of the heading, each as its cells.
fn table(text: &str, mark: &str) -> Vec<Vec<String>> {
    let mark = format!("<!-- {mark} -->");
    let (_, behind) = text.split_once(&mark).unwrap_or_else(|| panic!("there is no {mark}"));
    let lines = behind.trim_start().lines().take_while(|line| line.starts_with('|'));
    lines
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect()
}

#[test]
fn the_table_of_errors_is_that_of_the_code() {
    let yes = |yes| if yes { "yes" } else { "no" }.to_owned();
    let row = |code: Code| {
        let grpc = status::of(&Rejection::new(code, "")).code();
        vec![code.to_string(), format!("{grpc:?}"), yes(code.retryable())]
    };
    let stated = table(&read("docs/protocol.md"), "errors").into_iter().map(|row| row[..3].to_vec());
    assert_eq!(stated.collect::<Vec<_>>(), Code::ALL.map(row));
}

#[test]
fn the_contract_lists_every_error_code() {
    let contract = read("proto/room/v1/room.proto");
    let (_, behind) = contract.split_once("Codes: ").unwrap();
    let (list, _) = behind.split_once('.').unwrap();
    let listed: Vec<String> = list.replace("//", " ").split(',').map(|code| code.trim().to_owned()).collect();
    assert_eq!(listed, Code::ALL.map(Code::as_str));
}

#[test]
fn the_table_of_endings_is_that_of_the_code() {
    let reasons = [
        ClosingReason::Left,
        ClosingReason::RoomEnded,
        ClosingReason::Removed,
        ClosingReason::Banned,
        ClosingReason::Draining,
        ClosingReason::JoinTimeout,
        ClosingReason::TooManySessions,
        ClosingReason::SlowConsumer,
        ClosingReason::ProtocolError,
        ClosingReason::Internal,
        ClosingReason::SessionAge,
        ClosingReason::CredentialExpired,
        ClosingReason::CredentialRevoked,
    ];
    // Those that were added later begin at 20.
    let wire = (1..100).filter_map(|number| pb::ClosingReason::try_from(number).ok());
    let expected: Vec<Vec<String>> = wire
        .zip(reasons)
        .map(|(wire, reason)| {
            let name = wire.as_str_name().trim_start_matches("CLOSING_REASON_").to_owned();
            let code = format!("{:?}", status::of_closing(reason).code());
            vec![name, code, if reason.reconnect() { "yes" } else { "no" }.to_owned()]
        })
        .collect();
    assert_eq!(expected.len(), reasons.len());
    let stated = table(&read("docs/protocol.md"), "endings").into_iter().map(|row| row[..3].to_vec());
    assert_eq!(stated.collect::<Vec<_>>(), expected);
}

/// What stands between backticks on one line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with("```")).flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    for document in DOCUMENTS {
        for name in quoted(&read(document)) {
            let is_path = [".rs", ".proto", ".md", ".sh", "/"].iter().any(|end| name.ends_with(end))
                && name.contains('/')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-{},".contains(c));
            if !is_path {
                continue;
            }
            for path in expand(name) {
                named += 1;
                let found = PLACES.iter().any(|place| root.join(place).join(&path).exists());
                assert!(found, "{document} names `{path}`, which is not there");
            }
        }
    }
    assert!(named > 60, "only {named} names of files were found");
}

/// `src/{a,b}.rs` as its two paths.
fn expand(name: &str) -> Vec<String> {
    let Some((begin, rest)) = name.split_once('{') else {
        return vec![name.to_owned()];
    };
    let (parts, end) = rest.split_once('}').unwrap();
    parts.split(',').map(|part| format!("{begin}{part}{end}")).collect()
}

/// Every key of the configuration file with those above it: `limits.rates.user.messages`.
fn keys() -> BTreeSet<String> {
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut keys = BTreeSet::new();
    for line in read("config.yaml").lines() {
        // What is given as an example is indented and commented out.
        let content = line.trim_start().trim_start_matches("# ");
        let indent = line.len() - content.len();
        let Some((key, _)) = content.split_once(':') else { continue };
        let is_word = key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if key.is_empty()
            || !is_word
            || content.len() > key.len() + 1 && !content[key.len()..].starts_with(": ")
        {
            continue;
        }
        above.retain(|(of, _)| *of < indent);
        above.push((indent, key.to_owned()));
        keys.insert(above.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join("."));
    }
    keys
}

#[test]
fn every_key_that_a_document_names_is_in_the_configuration() {
    let keys = keys();
    let sections: BTreeSet<&str> = keys.iter().map(|key| key.split('.').next().unwrap()).collect();
    let mut named = 0;
    for document in DOCUMENTS {
        for name in quoted(&read(document)) {
            let name = name.split(':').next().unwrap();
            let Some((section, key)) = name.split_once('.') else { continue };
            let is_key =
                !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '.');
            if !sections.contains(section) || !is_key || key == "rs" {
                continue;
            }
            named += 1;
            assert!(keys.contains(name), "{document} names the key `{name}`, which is not in config.yaml");
        }
    }
    assert!(named > 100, "only {named} keys were found");
}

#[test]
fn every_command_that_a_document_names_is_one() {
    let args = salon::cli::args::Args::command();
    let commands: Vec<&str> = args.get_subcommands().map(clap::Command::get_name).collect();
    let mut named = 0;
    for document in DOCUMENTS {
        let text = read(document);
        let in_blocks = text.lines().filter(|line| line.starts_with("salon "));
        for shown in quoted(&text).filter(|shown| shown.starts_with("salon ")).chain(in_blocks) {
            let Some(word) = shown.split_whitespace().skip(1).find(|word| !word.starts_with('-')) else {
                continue;
            };
            named += 1;
            assert!(commands.contains(&word), "{document} names `{shown}`, and there is no command {word}");
        }
    }
    assert!(named > 20, "only {named} commands were found");
}

#[test]
fn every_message_that_operations_explain_is_one() {
    let mut sources = String::new();
    let mut places = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                places.push(path);
            } else {
                sources.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let explained = table(&read("docs/operations.md"), "messages");
    assert!(explained.len() > 10);
    for row in explained {
        assert!(sources.contains(&row[0]), "no message has {:?}", row[0]);
    }
}

#[test]
fn every_local_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut links = 0;
    for document in DOCUMENTS {
        for target in read(document).split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap()) {
            if target.is_empty() || target.contains("://") {
                continue;
            }
            links += 1;
            let path = root.join(document).parent().unwrap().join(target);
            assert!(path.exists(), "{document} links to {target}, which is not there");
        }
    }
    assert!(links > 5, "only {links} links were found");
}

#[tokio::test]
async fn the_configuration_that_the_readme_shows_starts_a_server_with_its_budgets_and_tools() {
    let readme = read("README.md");
    let (_, behind) = readme.split_once("```yaml config\n").unwrap();
    let (shown, _) = behind.split_once("```").unwrap();
    let place = Place::new();
    fs::write(place.path("config.yaml"), shown).unwrap();
    let server = place.start().await;
    server.room("library", &[]).await;
    let (user_id, room_id) = (Some("ada".to_owned()), Some("library".to_owned()));
    let request = pb::GetUsageRequest { user_id, room_id };
    let told = server.client().await.get_usage(request).await.unwrap().into_inner().budgets;
    let limits: Vec<u64> = told.iter().filter_map(|budget| budget.limit).collect();
    assert_eq!(limits, [50_000, 1_000_000], "{told:?}");
    let in_force = place.run(&["config"]).await;
    let in_force = String::from_utf8(in_force.stdout).unwrap();
    assert!(in_force.contains("read_text_file") && in_force.contains("money_per_day"), "{in_force}");
    server.stop().await;
}
