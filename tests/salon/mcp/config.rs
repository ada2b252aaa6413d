//! What the configuration says about servers of tools, and what it refuses.

use std::fs;

use salon::config::{Config, Error, Loaded, McpWord, Problem, ToolApproval, load, show};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

fn read(file: &str, environment: &[(&str, &str)]) -> Result<Loaded, Error> {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("config.yaml"), file).unwrap();
    load(None, directory.path(), environment.iter().copied())
}

const BOTH: &str = "
mcp:
  servers:
    notes:
      command: [npx, --yes, '@example/notes@1.2.3', '', 80, { env: SALON_WORD }]
      env: { NOTES_TOKEN: SALON_NOTES }
      cwd: /srv/notes
      max_result: 1KiB
      tools:
        '*': { trusted_only: true }
        findNotes: { approval: none }
        delete.all: { hidden: true }
    search:
      url: https://search.example.com/mcp
      headers: { Authorization: SALON_SEARCH, X-Team: SALON_TEAM }
      call_timeout: 5m
    elsewhere:
      url_env: SALON_URL
";
const ENVIRONMENT: [(&str, &str); 9] = [
    ("SALON_WORD", "hidden-4715"),
    ("SALON_URL", "https://me:hidden-4716@tools.example.com/s/hidden-4717/mcp?key=hidden-4718"),
    ("PATH", "/bin"),
    ("HOME", "/root"),
    ("TERM", "xterm"),
    ("SALON_NOTES", "hidden-4711"),
    ("SALON_SEARCH", "Bearer hidden-4712"),
    ("SALON_TEAM", "hidden-4713"),
    ("OTHER", "hidden-4714"),
];

#[test]
fn servers_are_read_with_their_secrets() {
    let loaded = read(BOTH, &ENVIRONMENT).unwrap();
    let servers = loaded.config.mcp_servers();
    let notes = &servers["notes"];
    let word = |text: &str| McpWord::Text(text.into());
    let variable = McpWord::Variable("SALON_WORD".into());
    let words = [word("npx"), word("--yes"), word("@example/notes@1.2.3"), word(""), word("80"), variable];
    assert_eq!(notes.entry.command, words);
    assert_eq!(notes.words["SALON_WORD"].expose_secret(), "hidden-4715");
    assert_eq!(notes.entry.max_result, 1024);
    assert_eq!(notes.env["NOTES_TOKEN"].expose_secret(), "hidden-4711");
    assert_eq!(notes.env.len(), 1);
    let passed_on: Vec<_> = notes.passed_on.keys().map(String::as_str).collect();
    assert_eq!(passed_on, ["HOME", "PATH"]);
    let tools = &notes.entry.tools;
    assert_eq!(tools.keys().collect::<Vec<_>>(), ["*", "delete.all", "findNotes"]);
    assert_eq!(tools["findNotes"].approval, ToolApproval::None);
    // Whoever is named without a word about approval is asked for.
    assert_eq!(tools["*"].approval, ToolApproval::Required);
    assert!(tools["*"].trusted_only && tools["delete.all"].hidden);
    let search = &servers["search"];
    assert_eq!(search.headers["Authorization"].expose_secret(), "Bearer hidden-4712");
    assert_eq!(search.headers["X-Team"].expose_secret(), "hidden-4713");
    assert!(search.entry.tools.is_empty());
    let elsewhere = servers["elsewhere"].url.as_ref().unwrap().expose_secret();
    assert!(elsewhere.ends_with("?key=hidden-4718"), "{elsewhere}");
    assert!(Config::default().mcp_servers().is_empty());
}

#[test]
fn secrets_are_never_shown() {
    let loaded = read(BOTH, &ENVIRONMENT).unwrap();
    let shown = show(&loaded);
    for shown in [shown.clone(), format!("{loaded:?}"), format!("{:?}", loaded.config.mcp_servers())] {
        assert!(!shown.contains("471"), "{shown}");
    }
    // What is shown can be read again.
    let again = read(&shown, &ENVIRONMENT).unwrap();
    assert_eq!(again.config.mcp, loaded.config.mcp, "{shown}");
}

fn problems(entry: &str, environment: &[(&str, &str)]) -> Vec<Problem> {
    let file = format!("mcp: {{ servers: {{ mine: {{ {entry} }} }} }}");
    match read(&file, environment) {
        Ok(_) => panic!("{file} was taken"),
        Err(error) => error.problems().to_vec(),
    }
}

#[test]
fn what_cannot_work_is_refused_with_its_mend() {
    for (entry, key, words) in [
        ("cwd: /", "mcp.servers.mine", "either a `command` or a `url`"),
        ("command: [a], url: 'http://a'", "mcp.servers.mine", "either a `command` or a `url`"),
        ("url: 'http://a', url_env: PATH", "mcp.servers.mine", "either a `command` or a `url`"),
        ("url_env: NOT_SET", "mcp.servers.mine.url_env", "not set"),
        ("url_env: PATH", "PATH", "http:// or https://"),
        ("command: a", "mcp.servers.mine.command", "a"),
        ("command: [a, { env: NOT_SET }]", "mcp.servers.mine.command", "not set"),
        ("command: [{ env: PATH }]", "mcp.servers.mine.command", "begin with a program"),
        ("command: [a, --token, b]", "mcp.servers.mine.command", "hold a secret"),
        ("command: ['']", "mcp.servers.mine.command", "begin with a program"),
        ("url: 'ftp://a'", "mcp.servers.mine.url", "http:// or https://"),
        ("url: 'http://a', cwd: /", "mcp.servers.mine.cwd", "means nothing"),
        ("url: 'http://a', env: { A: PATH }", "mcp.servers.mine.env", "means nothing"),
        ("command: [a], headers: { A: PATH }", "mcp.servers.mine.headers", "means nothing"),
        ("command: [a], env: { A: NOT_SET }", "mcp.servers.mine.env.A", "not set"),
        ("url: 'http://a', headers: { 'a b': PATH }", "mcp.servers.mine.headers.a b", "no name"),
        ("url: 'http://a', headers: { Host: PATH }", "mcp.servers.mine.headers.Host", "no name"),
        ("url: 'http://a', headers: { A: LINES }", "LINES", "one line"),
        ("url: 'http://a', call_timeout: 2h", "mcp.servers.mine.call_timeout", "from 100ms to 1h"),
        ("url: 'http://a', connect_timeout: 6m", "mcp.servers.mine.connect_timeout", "from 100ms to 5m"),
        ("url: 'http://a', max_result: 1B", "mcp.servers.mine.max_result", "from 1KiB to 4MiB"),
        ("url: 'http://a', tool: {}", "mcp.servers.mine.tool", "did you mean `mcp.servers.mine.tools`"),
        (
            "url: 'http://a', tools: { x: { aproval: none } }",
            "mcp.servers.mine.tools.x.aproval",
            "did you mean",
        ),
        (
            "url: 'http://a', tools: { x: { approval: no } }",
            "mcp.servers.mine.tools.x.approval",
            "`required` or `none`",
        ),
        ("url: 'http://a', tools: { x: none }", "mcp.servers.mine.tools.x", "must be a section"),
    ] {
        let found = problems(entry, &[("PATH", "/bin"), ("LINES", "a\nb")]);
        let problem = found.iter().find(|problem| problem.key == key);
        let problem = problem.unwrap_or_else(|| panic!("{entry}: {found:?}"));
        assert!(problem.to_string().contains(words), "{entry}: {problem}");
    }
}

#[test]
fn names_of_servers_begin_names_of_tools() {
    for name in ["My", "a__b", "a_", "a.b", &"a".repeat(33)] {
        let file = format!("mcp: {{ servers: {{ '{name}': {{ url: 'http://a' }} }} }}");
        assert!(read(&file, &[]).is_err(), "{name}");
    }
    let longest = "a".repeat(32);
    for name in ["a", "a_b-1", "_a", &longest] {
        let file = format!("mcp: {{ servers: {{ '{name}': {{ url: 'http://a' }} }} }}");
        read(&file, &[]).unwrap();
    }
}

#[test]
fn a_secret_in_place_of_its_variable_is_refused_and_not_repeated() {
    for entry in [
        "url: 'http://a', headers: { A: hidden-4711 }",
        "command: [a], env: { A: hidden-4711 }",
        "url: 'http://me:hidden-4711@a'",
        "url: 'http://a/?key=hidden-4711'",
        "url_env: 'http://a/?key=hidden-4711'",
        "url_env: SECRET",
        "command: [a, --token=hidden-4711]",
        "command: [a, { env: hidden-4711 }]",
        "command: [a, { name: hidden-4711 }]",
        "url: 'http://a', headers: { A: SECRET }",
    ] {
        let found = problems(entry, &[("SECRET", "hidden-4711\n2")]);
        let text: String = found.iter().map(ToString::to_string).collect();
        assert!(!text.is_empty() && !text.contains("4711"), "{entry}: {text}");
    }
}
