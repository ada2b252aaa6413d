//! The floors of the code, enforced: imports point down, foreign crates stay on the floors that may name them, the
//! domain stays pure, and every file has a size and a beginning that a reader can cope with.
//!
//! Reads the sources as text. What is behind `#[cfg(test)]` is exempt from the floors: a test may build what it
//! tests from above.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, unreachable_pub, reason = "tests")]

#[path = "architecture/source.rs"]
mod source;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use source::{Source, UsedPath};

/// Every module of the crate by floor, the highest first. A module may use those on the floors below its own.
const FLOORS: &[&[&str]] = &[
    &["main", "lib"],
    &["cli", "server"],
    // What an operator does with a store, in a process of its own.
    &["ops"],
    &["grpc", "http"],
    &["session"],
    &["dispatch"],
    // A room owns its feed: these two are neighbours in the picture, and in code rooms stands on registry.
    &["rooms"],
    &["registry"],
    &["allowance", "budget"],
    // Neighbours in the picture: neither knows of the other.
    &["auth", "nodes"],
    // Whoever judges credentials records it.
    &["audit"],
    &["bus", "llm", "mcp", "store"],
    &["wire"],
    &["domain"],
    &["address", "clock", "config", "digest", "ids", "json_schema", "telemetry", "unless"],
];

/// A client of the contract that happens to live in the same program: it may use no more than another client could.
const CLI_USES: &[&str] = &["clock", "config", "ids", "telemetry", "wire"];

/// Crates that only some files may name, by the beginning of their names.
const CRATES: &[(&str, &[&str], &str)] = &[
    // The Chat Service is a backend that speaks gRPC: its client is behind the provider's trait.
    ("tonic", &["grpc", "server", "cli", "wire/pb", "llm/chat_service"], "only the doors know gRPC"),
    ("axum", &["http"], "only the doors know HTTP"),
    ("prost", &["wire", "cli"], "only the wire knows protobuf types"),
    ("rusqlite", &["store/sqlite"], "each backend is behind its trait"),
    ("tokio_postgres", &["store/postgres"], "each backend is behind its trait"),
    ("deadpool_postgres", &["store/postgres"], "each backend is behind its trait"),
    ("aws_config", &["store/dynamodb"], "each backend is behind its trait"),
    ("aws_sdk", &["store/dynamodb"], "each backend is behind its trait"),
    ("async_nats", &["bus/nats"], "each backend is behind its trait"),
    ("redis", &["bus/redis"], "each backend is behind its trait"),
    ("tiktoken_rs", &["llm/tokens"], "one place counts tokens"),
    ("async_openai", &["llm/openai"], "each backend is behind its trait"),
    ("base64", &["auth/jwt"], "only tokens are written in it"),
    ("rmcp", &["mcp"], "only one floor speaks MCP"),
    ("tokio_rustls", &["server/tls", "cli/tls"], "one place on each side speaks TLS"),
    ("x509_cert", &["server/tls"], "one module reads certificates"),
    ("jsonschema", &["json_schema"], "one module checks arguments"),
    ("hdrhistogram", &["cli/bench"], "only the load generator counts times"),
    ("indicatif", &["cli/bench"], "only the load generator takes so long"),
];

/// What the domain may not name: it is pure, synchronous, and knows no socket, clock or store.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio_util",
    "tokio_stream",
    "futures_util",
    "async_trait",
    "tonic",
    "bytes",
    "tracing",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Above this a file holds more than one idea.
const MAX_LINES: usize = 500;

#[test]
fn the_sources_keep_to_their_floors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = rust_files(&root.join("src"));
    assert!(files.len() > 10, "found only {} files under src", files.len());
    let sources: Vec<Source> = files
        .iter()
        .map(|file| {
            let name = file.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            Source::parse(&name, &fs::read_to_string(file).unwrap())
        })
        .collect();
    let tests: BTreeSet<&str> = sources.iter().flat_map(Source::test_modules).collect();
    let mut problems = Vec::new();
    for source in &sources {
        problems.extend(shape_problems(source));
        if !tests.contains(source.module.join("::").as_str()) {
            problems.extend(floor_problems(source));
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// The manifest's lint is for every target of the package: nobody may take it back, and nobody may need to.
#[test]
fn nothing_is_unsafe() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let lints = manifest.split("[lints.rust]").nth(1).unwrap().split("\n[").next().unwrap();
    assert!(lints.contains("unsafe_code = \"forbid\""), "{lints}");
    let files = ["src", "tests", "benches"].iter().flat_map(|dir| rust_files(&root.join(dir)));
    for file in files.chain([root.join("build.rs")]) {
        let text = fs::read_to_string(&file).unwrap();
        let found = text.lines().find(|line| {
            let code = line.split("//").next().unwrap_or_default();
            ["fn", "impl", "{", "extern", "trait"].iter().any(|next| code.contains(&format!("unsafe {next}")))
        });
        // This test's own words are texts.
        assert!(found.is_none() || file.ends_with("architecture.rs"), "{}: {found:?}", file.display());
    }
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// How a file begins and how long it is.
fn shape_problems(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    if !source.begins_with_doc {
        problems.push(format!("{}:1: begins without `//!`: say what the module owns", source.file));
    }
    if source.lines > MAX_LINES {
        problems.push(format!(
            "{}:{MAX_LINES}: has {} lines, at most {MAX_LINES}: divide it by ideas",
            source.file, source.lines
        ));
    }
    problems
}

/// What a file names that its floor may not.
fn floor_problems(source: &Source) -> Vec<String> {
    let own = source.module[0].as_str();
    let Some(floor) = floor_of(own) else {
        return vec![format!(
            "{}:1: `{own}` is on no floor: give it one in tests/architecture.rs",
            source.file
        )];
    };
    let mut problems = Vec::new();
    for used in &source.used {
        let problem = match used.within_crate(&source.module) {
            Some(target) => import_problem(own, floor, &target),
            None => crate_problem(source, used),
        };
        if let Some(problem) = problem {
            problems.push(format!(
                "{}:{}: `{}`: {problem}",
                source.file,
                used.line,
                used.segments.join("::")
            ));
        }
    }
    if own == "domain" {
        problems.extend(source.async_lines.iter().map(|line| {
            format!("{}:{line}: the domain is synchronous: it must not wait for anything", source.file)
        }));
    }
    problems
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Why a module may not use another of this crate. A floor is counted from the top: a greater one is lower.
fn import_problem(own: &str, floor: usize, target: &[String]) -> Option<String> {
    let target = target.first()?.as_str();
    if target == own {
        return None;
    }
    let Some(target_floor) = floor_of(target) else {
        return Some(format!("`{target}` is on no floor: give it one in tests/architecture.rs"));
    };
    if own == "cli" && !CLI_USES.contains(&target) {
        return Some(format!("cli is a client, it may use only {}", CLI_USES.join(", ")));
    }
    // The lowest floor holds what everything rests on; its modules may rest on one another.
    let lowest = floor == FLOORS.len() - 1;
    if target_floor > floor || (lowest && target_floor == floor) {
        return None;
    }
    let relation = if target_floor == floor { "stands beside" } else { "stands above" };
    Some(format!("`{target}` {relation} `{own}`: imports point down"))
}

/// Why a file may not use a crate, or a part of the standard library.
fn crate_problem(source: &Source, used: &UsedPath) -> Option<String> {
    let name = used.segments[0].as_str();
    for (begin, places, reason) in CRATES {
        let named = name == *begin || name.starts_with(&format!("{begin}_"));
        if named && !places.iter().any(|place| source.is_in(place)) {
            return Some(format!("{reason}: only {} may name it", places.join(", ")));
        }
    }
    let path = used.segments.join("::");
    let impure = |name: &&&str| path == **name || path.starts_with(&format!("{name}::"));
    let found = IMPURE.iter().find(impure).filter(|_| source.module[0] == "domain")?;
    Some(format!("the domain is pure and must not name `{found}`"))
}

/// The problems of one file given as text.
fn problems_of(file: &str, text: &str) -> Vec<String> {
    let source = Source::parse(file, text);
    let mut problems = shape_problems(&source);
    problems.extend(floor_problems(&source));
    problems
}

#[test]
fn an_import_that_points_up_is_found() {
    let text = "//! Doc.\nuse std::fmt;\nuse crate::{\n    ids::RoomId,\n    session::{self, State},\n};\n";
    let problems = problems_of("src/store/memory.rs", text);
    let wanted =
        ["src/store/memory.rs:5: `crate::session::self`: `session` stands above `store`: imports point down"];
    assert_eq!(problems[..1], wanted);
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn a_neighbour_and_a_path_without_use_are_found() {
    let problems = problems_of("src/bus/local.rs", "//! Doc.\nfn f() { crate::store::open(); }\n");
    let wanted =
        ["src/bus/local.rs:2: `crate::store::open`: `store` stands beside `bus`: imports point down"];
    assert_eq!(problems, wanted);
    let problems = problems_of("src/bus/local.rs", "//! Doc.\nuse super::super::grpc::Door;\n");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems_of("src/telemetry.rs", "//! Doc.\nuse crate::config::Log;\n"), Vec::<String>::new());
    assert_eq!(problems_of("src/store/sqlite.rs", "//! Doc.\nuse super::Store;\n"), Vec::<String>::new());
}

#[test]
fn a_crate_on_the_wrong_floor_is_found() {
    let tonic = "//! Doc.\nfn f() -> tonic::Status { todo() }\n";
    assert_eq!(problems_of("src/session/mod.rs", tonic).len(), 1);
    assert_eq!(problems_of("src/grpc/status.rs", tonic).len(), 0);
    assert_eq!(problems_of("src/wire/pb.rs", "//! Doc.\ntonic::include_proto!(\"a\");\n").len(), 0);
    assert_eq!(problems_of("src/wire/encode.rs", "//! Doc.\nuse tonic_prost::X;\n").len(), 1);
    assert_eq!(problems_of("src/llm/chat_service/status.rs", tonic).len(), 0);
    assert_eq!(problems_of("src/llm/openai.rs", tonic).len(), 1);
    assert_eq!(problems_of("src/store/memory.rs", "//! Doc.\nuse {rusqlite::Row, std::fmt};\n").len(), 1);
    assert_eq!(problems_of("src/store/sqlite/append.rs", "//! Doc.\nuse rusqlite::Row;\n").len(), 0);
    assert_eq!(problems_of("src/rooms/mod.rs", "//! Doc.\nuse prost::Message;\n").len(), 1);
    assert_eq!(problems_of("src/cli/log.rs", "//! Doc.\nuse crate::rooms::Rooms;\n").len(), 1);
    for aws in ["aws_config::X", "aws_sdk_dynamodb::X"] {
        assert_eq!(problems_of("src/rooms/mod.rs", &format!("//! Doc.\nuse {aws};\n")).len(), 1, "{aws}");
        assert_eq!(problems_of("src/store/dynamodb/log.rs", &format!("//! Doc.\nuse {aws};\n")).len(), 0);
    }
}

#[test]
fn an_impure_domain_is_found() {
    for line in
        ["use bytes::Bytes;", "use std::time::{Duration, Instant};", "async fn f() {}", "use std::fs;"]
    {
        let problems = problems_of("src/domain/room.rs", &format!("//! Doc.\n{line}\n"));
        assert_eq!(problems.len(), 1, "{line}: {problems:?}");
    }
    let pure = "//! Doc.\nuse std::time::Duration;\nfn f(text: &str) -> usize { text.bytes().len() }\n";
    assert_eq!(problems_of("src/domain/room.rs", pure), Vec::<String>::new());
}

#[test]
fn a_file_without_a_beginning_or_too_long_is_found() {
    assert_eq!(problems_of("src/ids.rs", "use std::fmt;\n").len(), 1);
    assert_eq!(problems_of("src/ids.rs", &format!("//! Doc.\n{}", "\n".repeat(MAX_LINES))).len(), 1);
    assert_eq!(problems_of("src/utils.rs", "//! Doc.\n").len(), 1);
}

#[test]
fn comments_texts_and_tests_are_not_code() {
    let text = r##"//! See [`crate::server`].
// use crate::server::run;
/* crate::server /* nested */ crate::grpc */
const A: &str = "crate::server::run \" crate::grpc";
const B: &str = r#"crate::server "quoted" "#;
const C: [char; 3] = ['"', '\'', '/'];
fn f<'a>(x: &'a str) -> &'a str { x }
#[cfg(test)]
#[allow(dead_code)]
mod tests {
    use crate::server::run;
    fn g() { let _ = [1]; crate::grpc::door(); }
}
#[cfg(test)]
use crate::session::State;
use crate::ids::RoomId;
"##;
    assert_eq!(problems_of("src/domain/room.rs", text), Vec::<String>::new());
    let behind = format!("{text}use crate::grpc::Door;\n");
    assert_eq!(problems_of("src/domain/room.rs", &behind).len(), 1);
    let declares = Source::parse("src/store/mod.rs", "//! Doc.\n#[cfg(test)]\nmod tests;\n");
    assert_eq!(declares.test_modules().collect::<Vec<_>>(), ["store::tests"]);
}
