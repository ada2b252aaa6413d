//! `salon rooms generate`: a room that a model proposes from a sentence, created once somebody agrees.
//!
//! The proposal is printed before anything is created. Whoever sits at a terminal is asked about it; elsewhere it is
//! created only if that was said beforehand. When the model fails nothing has been created, and the command can be
//! given again: it will propose another room.

use std::io::{BufWriter, Write};

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

use crate::{
    cli::{
        args::DEFAULT_SERVER,
        client::{self, Error},
        exit::Exit,
        json::Printer,
        text,
    },
    config::Money,
    wire::pb::room::v1::{
        ChatStyle, CreateRoomRequest, GenerateRoomRequest, GenerateRoomResponse, LlmConfig,
    },
};

/// What `salon rooms generate` was asked.
#[derive(Debug, Clone, Default)]
pub struct GenerateOptions {
    /// The server.
    pub server: client::Server,
    /// Who asks, and becomes ADMIN of the room.
    pub user: String,
    /// What the room shall be about.
    pub prompt: String,
    /// Create it without a question.
    pub accept: bool,
    /// One line of JSON instead of what people read, and no question.
    pub json: bool,
}

/// Writes what is proposed to `out`. `terminal`: where somebody can be asked, if there is anybody.
pub async fn run(
    options: GenerateOptions,
    terminal: Option<impl AsyncBufRead + Unpin>,
    out: &mut (impl Write + Send),
) -> Result<Exit, Error> {
    match propose(&options, terminal.filter(|_| !options.json), &mut BufWriter::new(out)).await {
        // Who was to create a room and could not say so has failed.
        Err(error) if options.accept || !error.is_broken_pipe() => Err(error),
        Ok(()) | Err(_) => Ok(Exit::Success),
    }
}

async fn propose(
    options: &GenerateOptions,
    terminal: Option<impl AsyncBufRead + Unpin>,
    out: &mut (impl Write + Send),
) -> Result<(), Error> {
    let mut client = client::rooms(&options.server).await?;
    if terminal.is_some() {
        writeln!(out, "a model is asked for a room …\n")?;
        out.flush()?;
    }
    let user_id = Some(options.user.clone());
    let request = GenerateRoomRequest { prompt: options.prompt.clone(), user_id };
    let answer = client.generate_room(request).await;
    let mut proposed = answer.map_err(|status| Error::from_status(&status, None))?.into_inner();
    let draft = proposed.draft.as_mut().ok_or_else(|| Error::Answer("it proposes no room".to_owned()))?;
    draft.created_by.clone_from(&options.user);
    if !options.json {
        show(&proposed, out)?;
    }
    let is_asked = terminal.is_some();
    let is_wanted = options.accept
        || match terminal {
            Some(terminal) => agrees(terminal, out).await?,
            None => false,
        };
    if let Some(draft) = proposed.draft.as_mut().filter(|_| is_wanted) {
        let created = client.create_room(draft.clone()).await;
        let created = created.map_err(|status| Error::from_status(&status, None))?;
        draft.room_id = Some(created.into_inner().room_id);
    }
    if options.json {
        writeln!(out, "{}", Printer::new("room.v1.GenerateRoomResponse")?.line(&proposed)?)?;
    } else {
        let room = proposed.draft.as_ref().and_then(|draft| draft.room_id.as_deref());
        writeln!(out, "{}", ending(room, options, is_asked))?;
    }
    Ok(out.flush()?)
}

/// Whether whoever sits there says yes; what cannot be read is none.
async fn agrees(mut terminal: impl AsyncBufRead + Unpin, out: &mut impl Write) -> Result<bool, Error> {
    write!(out, "Create this room? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    let is_read = terminal.read_line(&mut answer).await.is_ok();
    if !answer.ends_with('\n') {
        // The end of the input leaves the line open.
        writeln!(out)?;
    }
    Ok(is_read && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// What has come of it.
fn ending(room: Option<&str>, options: &GenerateOptions, is_asked: bool) -> String {
    match (room, is_asked) {
        (Some(room), _) => {
            let server = text::line(&options.server.url);
            let elsewhere =
                if server == DEFAULT_SERVER { String::new() } else { format!(" --server {server}") };
            // Anybody else would be no ADMIN there.
            let user = text::line(&options.user);
            format!("created; talk there with: salon chat {}{elsewhere} --user {user}", text::line(room))
        }
        (None, true) => "nothing was created".to_owned(),
        (None, false) => "nothing was created; with --accept what is proposed is".to_owned(),
    }
}

/// The room as people read it, and what it has cost to think of it.
fn show(proposed: &GenerateRoomResponse, out: &mut impl Write) -> std::io::Result<()> {
    let CreateRoomRequest { name, description, llms, .. } = proposed.draft.clone().unwrap_or_default();
    writeln!(out, "{}", text::line(&name))?;
    indented(&description, "  ", out)?;
    writeln!(out)?;
    for llm in &llms {
        writeln!(out, "  @{}  {}", text::line(&llm.id), described(llm))?;
        indented(&llm.persona, "    ", out)?;
    }
    let usage = proposed.usage.unwrap_or_default();
    // 0: the provider does not count, or nobody knows the price.
    let tokens = match usage.prompt_tokens.saturating_add(usage.completion_tokens) {
        0 => String::new(),
        tokens => format!(", {tokens} tokens"),
    };
    let cost = match usage.cost_micros {
        0 => String::new(),
        micros => format!(", {} money", Money { micros }),
    };
    writeln!(out, "\nproposed by {}{tokens}{cost}", text::line(&proposed.model))
}

/// An LLM on one line: its name, what it is, and how it writes.
fn described(llm: &LlmConfig) -> String {
    let title = match text::line(&llm.title) {
        title if title.is_empty() => title,
        title => format!(", {title}"),
    };
    let style = match llm.chat_style() {
        ChatStyle::Unspecified => "",
        ChatStyle::Conversational => " (conversational)",
        ChatStyle::Detailed => " (detailed)",
        ChatStyle::Bullet => " (bullet)",
    };
    format!("{}{title}{style}", text::line(&llm.display_name))
}

fn indented(lines: &str, by: &str, out: &mut impl Write) -> std::io::Result<()> {
    text::lines(lines).trim_end().lines().try_for_each(|line| writeln!(out, "{by}{line}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::room::v1::TokenUsage;

    #[test]
    fn a_proposal_is_shown_without_escapes_and_with_what_it_has_cost() {
        let llm = |id: &str, title: &str, persona: &str| LlmConfig {
            id: id.into(),
            display_name: id.to_uppercase(),
            title: title.into(),
            persona: persona.into(),
            ..Default::default()
        };
        let detailed =
            LlmConfig { chat_style: ChatStyle::Detailed.into(), ..llm("lu", "master", "You\npour.") };
        let draft = CreateRoomRequest {
            name: "Tea\u{1b}[31m house".into(),
            description: "About tea.\n".into(),
            llms: vec![detailed, llm("bo", "", "")],
            ..Default::default()
        };
        let usage = TokenUsage { prompt_tokens: 100, completion_tokens: 50, cost_micros: 1_500 };
        let proposed =
            GenerateRoomResponse { draft: Some(draft), model: "drafts".into(), usage: Some(usage) };
        let mut out = Vec::new();
        show(&proposed, &mut out).unwrap();
        let expected = "Tea house\n  About tea.\n\n  @lu  LU, master (detailed)\n    You\n    pour.\n  @bo  BO\n\n\
                        proposed by drafts, 150 tokens, 0.0015 money\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        show(&GenerateRoomResponse { usage: None, ..proposed }, &mut out).unwrap();
        assert!(
            String::from_utf8(out).unwrap().ends_with("\nproposed by drafts\n"),
            "nothing is known of it"
        );
    }

    #[test]
    fn the_end_says_how_to_go_on() {
        let ends = |room, server: &str, is_asked| {
            let (server, user) = (server.to_owned().into(), "ada".to_owned());
            ending(room, &GenerateOptions { server, user, ..GenerateOptions::default() }, is_asked)
        };
        assert_eq!(
            ends(Some("tea"), DEFAULT_SERVER, true),
            "created; talk there with: salon chat tea --user ada"
        );
        let elsewhere = ends(Some("tea"), "http://h:1", false);
        assert_eq!(elsewhere, "created; talk there with: salon chat tea --server http://h:1 --user ada");
        assert_eq!(ends(None, DEFAULT_SERVER, true), "nothing was created");
        assert!(ends(None, DEFAULT_SERVER, false).contains("--accept"));
    }
}
