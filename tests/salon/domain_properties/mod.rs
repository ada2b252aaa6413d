//! No sequence of commands, sensible or not, breaks a rule of a room.
//!
//! Random actors send random commands with ids out of small pools, so that most of them hit something. After each
//! of them the room is compared with a model that was written a second time, without looking at `apply`.

mod conduct;
pub mod generators;
mod model;
mod rights;
mod steps;
pub mod world;

use std::{cell::RefCell, collections::BTreeMap};

use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};

pub use self::steps::{Opening, Step};
use self::world::World;

/// The same cases on every machine: a failure is a fault and never a matter of luck.
pub fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 256,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_260),
        ..ProptestConfig::default()
    }
}

/// Where the generator's commands were all refused, every property would hold: what was reached is checked too.
#[test]
fn no_sequence_of_commands_breaks_a_room() {
    let reached = RefCell::new(BTreeMap::<String, usize>::new());
    let strategy = (generators::opening(), prop::collection::vec(generators::step(), 1..350));
    TestRunner::new(config())
        .run(&strategy, |(opening, steps)| {
            let world = play(&opening, steps);
            for (name, count) in world.reached {
                *reached.borrow_mut().entry(name).or_default() += count;
            }
            Ok(())
        })
        .unwrap();
    check_reached(&reached.into_inner());
}

pub fn play(opening: &Opening, steps: Vec<Step>) -> World {
    let mut world = World::new(opening);
    for step in steps::arrivals().into_iter().chain(steps) {
        let (actor, command) = step.command(&world);
        world.step(&actor, command);
    }
    world
}

/// Every kind of event, and every refusal that a decision can give.
fn check_reached(reached: &BTreeMap<String, usize>) {
    let names: Vec<&str> = reached.keys().map(String::as_str).collect();
    let expected = [
        "AlreadyExists",
        "ApprovalDecided",
        "ApprovalRequested",
        "AutopilotChanged",
        "ContextSummarised",
        "InvalidArgument",
        "InvalidPoll",
        "InvitationClosed",
        "InvitationCreated",
        "LlmAdded",
        "LlmRemoved",
        "LlmUpdated",
        "MemberChanged Banned",
        "MemberChanged Joined",
        "MemberChanged Left",
        "MemberChanged Removed",
        "MemberChanged Unbanned",
        "MemberChanged Updated",
        "MessageDeleted",
        "MessageEdited",
        "MessagePosted",
        "MessageSuperseded",
        "NotFound",
        "PermissionDenied",
        "PollClosed",
        "PollCreated",
        "PollVoted",
        "RateLimited",
        "ReactionChanged",
        "RegenerateRequested",
        "ResourceExhausted",
        "RoomActivated",
        "RoomCreated",
        "RoomEnded",
        "RoomUpdated",
        "RunEnded",
        "RunStarted",
        "VoteAbstained",
        "VoteRetracted",
        "a closed poll's refusal",
        "an ended room's refusal",
        "more messages than the state keeps",
        "nothing",
    ];
    assert_eq!(names, expected, "{reached:#?}");
}
