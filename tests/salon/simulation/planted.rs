//! Bugs that are planted, each in the place of a part that the nodes rely on: a simulation that does not find them finds
//! nothing.

use super::{number, run::simulate};

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// A repeat is not recognised: appends lose their idempotency key.
    Repeats,
    /// A command is acknowledged before the store has answered: of an append that fails it is said that it succeeded.
    EarlyAck,
    /// Delivery skips a hole: now and then an event is not told.
    Hole,
    /// What was decided is not checked against what another node has decided: appends lose their fence.
    NoFence,
    /// Nobody looks at the heads of logs.
    NoHeads,
    /// Nobody finds what a dead node has left open: the list of open answers is empty.
    Orphans,
    /// A node tells another something else than it has stored.
    OtherBytes,
}

/// How many seeds may pass before one finds it.
const SEEDS: u64 = 60;

fn is_found(planted: Planted, by: &str) {
    let first = number("SALON_SIM_FIRST", 0);
    for seed in first..first + SEEDS {
        let wrong = simulate(seed, Some(planted)).wrong;
        if let Some(found) = wrong.iter().find(|wrong| wrong.contains(by)) {
            println!("{planted:?} is found by seed {seed}: {found}");
            return;
        }
        assert!(wrong.is_empty(), "seed {seed} finds something else: {wrong:#?}");
    }
    panic!("{planted:?} is not found by {SEEDS} seeds");
}

#[test]
fn a_repeat_that_is_not_recognised_is_found() {
    is_found(Planted::Repeats, "is in the log at [");
}

#[test]
fn an_acknowledgement_before_the_store_has_answered_is_found() {
    is_found(Planted::EarlyAck, "acknowledged");
}

#[test]
fn a_hole_that_is_skipped_is_found() {
    is_found(Planted::Hole, "being At(");
}

#[test]
fn a_decision_that_another_node_has_overtaken_is_found() {
    is_found(Planted::NoFence, "a poll is closed again");
}

#[test]
fn a_lost_last_event_that_nobody_looks_for_is_found() {
    is_found(Planted::NoHeads, "no rest");
}

#[test]
fn an_answer_that_nobody_ends_is_found() {
    is_found(Planted::Orphans, "an answer has begun 1 times and ended 0 times");
}

#[test]
fn an_event_that_is_told_differently_is_found() {
    is_found(Planted::OtherBytes, "that is not in the log there");
}
