//! The inputs that are kept, run again without a fuzzer, and the seeds that they began with.

use std::{collections::BTreeSet, fs, path::PathBuf};

use prost_reflect::DescriptorPool;
use salon::{domain::event::Event, wire::pb};

use super::{TARGETS, Target, commands::play, opening::Table, pieces, seeds, tokens::believed};

/// As much as a reviewer and a clone put up with.
const MOST_FILES: usize = 200;
/// In all targets together.
const MOST_BYTES: usize = 500 * 1024;

fn corpus(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

/// The inputs of a target with their names, sorted.
fn kept(name: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(corpus(name))
        .unwrap_or_else(|error| panic!("the corpus of {name}: {error}"))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[track_caller]
fn replay(name: &str) {
    let target: Target = TARGETS.iter().find(|(known, _)| *known == name).unwrap().1;
    let files = kept(name);
    assert!(files.len() >= 10, "only {} inputs of {name} are kept", files.len());
    for (file, data) in files.into_iter().chain(seeds::of(name)) {
        // Captured unless it fails: then the last line names the input.
        println!("{name}/{file}");
        target(&data);
    }
}

#[test]
fn kept_commands_break_no_rule() {
    replay("commands");
}

#[test]
fn kept_configurations_break_no_rule() {
    replay("configuration");
}

#[test]
fn kept_cursors_break_no_rule() {
    replay("cursor");
}

#[test]
fn kept_hints_break_no_rule() {
    replay("hint");
}

#[test]
fn kept_mentions_break_no_rule() {
    replay("mention");
}

#[test]
fn kept_bytes_of_stores_break_no_rule() {
    replay("stored");
}

#[test]
fn kept_tokens_break_no_rule() {
    replay("token");
}

/// Where every token was refused, no rule about those that are believed would be tried.
#[test]
fn the_seeds_of_tokens_are_believed_where_they_should_be() {
    let believed: Vec<bool> = seeds::of("token").iter().map(|(_, data)| believed(data)).collect();
    let expected = [true, true, true, false, false, false, false, false, true, true, true, false, true];
    assert_eq!(believed, expected);
}

/// A new command is not forgotten.
#[test]
fn every_message_of_clients_has_a_seed() {
    let pool = DescriptorPool::decode(pb::DESCRIPTORS).unwrap();
    let client = pool.get_message_by_name("room.v1.ClientMessage").unwrap();
    let wanted: BTreeSet<String> = client
        .oneofs()
        .flat_map(|oneof| oneof.fields().collect::<Vec<_>>())
        .map(|f| f.name().into())
        .collect();
    let mut found = BTreeSet::new();
    for (_, data) in seeds::of("commands") {
        for piece in pieces(&data) {
            let message = prost_reflect::DynamicMessage::decode(client.clone(), &piece[1..]).unwrap();
            found.extend(message.fields().map(|(field, _)| field.name().to_owned()));
        }
    }
    let missing: Vec<_> = wanted.difference(&found).collect();
    assert!(wanted.len() > 30 && missing.is_empty(), "{missing:?} of {wanted:?}");
}

/// Where every command was refused, no rule would be tried: the seeds must still mean what they meant.
#[test]
fn the_seeds_reach_what_they_are_for() {
    let opened = Table::laid().log.len();
    let reached: BTreeSet<String> = seeds::of("commands")
        .iter()
        .flat_map(|(_, data)| play(data).log.split_off(opened))
        .map(|recorded| name(&recorded.event))
        .collect();
    let wanted = [
        "ApprovalDecided",
        "AutopilotChanged",
        "InvitationCreated",
        "LlmAdded",
        "LlmRemoved",
        "LlmUpdated",
        "MemberChanged",
        "MessageDeleted",
        "MessageEdited",
        "MessagePosted",
        "PollClosed",
        "PollCreated",
        "PollVoted",
        "ReactionChanged",
        "RoomEnded",
        "RoomUpdated",
        "VoteRetracted",
    ];
    let missing: Vec<_> = wanted.iter().filter(|name| !reached.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?} of {reached:?}");
}

/// `SALON_FUZZ_SEEDS=1` writes the seeds where the fuzzer begins.
#[test]
fn the_corpus_is_small_and_belongs_to_targets() {
    if std::env::var_os("SALON_FUZZ_SEEDS").is_some() {
        for (name, _) in TARGETS {
            fs::create_dir_all(corpus(name)).unwrap();
            for (file, data) in seeds::of(name) {
                fs::write(corpus(name).join(file), data).unwrap();
            }
        }
    }
    let mut bytes = 0;
    for (name, _) in TARGETS {
        let files = kept(name);
        assert!(files.len() <= MOST_FILES, "{name} has {} files", files.len());
        bytes += files.iter().map(|(_, data)| data.len()).sum::<usize>();
    }
    assert!(bytes <= MOST_BYTES, "the corpus has {bytes} bytes");
    let known: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    for entry in fs::read_dir(corpus("")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(known.contains(name.to_str().unwrap()), "{name:?} is the corpus of no target");
    }
    for (name, _) in TARGETS {
        let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz/targets/{name}.rs"));
        assert!(program.exists(), "{name} has no program");
    }
}

fn name(event: &Event) -> String {
    let debug = format!("{event:?}");
    debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}
