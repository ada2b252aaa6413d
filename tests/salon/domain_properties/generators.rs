//! Which steps there are, and how often each: enough of the right ones that a room comes to life, enough of the
//! wrong ones that every refusal is met.

use proptest::prelude::*;
use salon::domain::{llm::RunEnd, room::Role};

use super::{
    conduct, rights,
    steps::{KNOWN, Op, Opening, Step},
};

/// One in ten ids is of something that does not exist.
const IDS: std::ops::Range<u8> = 0..KNOWN + 10;

pub fn opening() -> impl Strategy<Value = Opening> {
    (prop::option::weighted(0.8, 0..2_u8), 0..3_u8).prop_map(|(creator, llms)| Opening { creator, llms })
}

pub fn step() -> impl Strategy<Value = Step> {
    // Boxed below: a strategy of all steps by value does not fit the stack of a test.
    // Actors below 6 are users, below 10 LLMs, the rest the server.
    let anybody = (0..13_u8, op()).prop_map(|(actor, op)| Step { actor, op });
    let tool = (13..17_u8, op()).prop_map(|(actor, op)| Step { actor, op });
    let server = (10..13_u8, runs()).prop_map(|(actor, op)| Step { actor, op });
    let people = (prop_oneof![5 => 0..2_u8, 1 => 2..4_u8], op()).prop_map(|(actor, op)| Step { actor, op });
    let newcomer = (others(), join()).prop_map(|(actor, op)| Step { actor, op });
    prop_oneof![3 => anybody, 1 => tool, 4 => server, 25 => people, 2 => newcomer]
}

fn join() -> impl Strategy<Value = Op> {
    (prop::option::of(role()), 0..4_u8).prop_map(|(role, name)| Op::Join { role, name })
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![1 => Just(Role::Viewer), 2 => Just(Role::Member), 3 => Just(Role::Admin)]
}

/// Seldom the two who do most: without them a room falls silent.
fn others() -> impl Strategy<Value = u8> {
    prop_oneof![1 => 0..2_u8, 9 => 2..6_u8]
}

fn runs() -> BoxedStrategy<Op> {
    let ends = prop_oneof![
        Just(RunEnd::Completed),
        Just(RunEnd::OptedOut),
        Just(RunEnd::Interrupted),
        Just(RunEnd::Failed),
        Just(RunEnd::TimedOut),
        Just(RunEnd::OverBudget),
    ];
    prop_oneof![
        3 => (0..4_u8, IDS, 0..7_u32, prop::bool::weighted(0.1))
            .prop_map(|(llm, target, depth, again)| Op::StartRun { llm, target, depth, again }),
        3 => (IDS, 0..8_u8, ends, prop::option::of(0..4_u8))
            .prop_map(|(run, text, end, mention)| Op::FinishRun { run, text, end, mention }),
        3 => conduct::by_the_server().prop_map(Op::Conduct),
    ]
    .boxed()
}

fn op() -> BoxedStrategy<Op> {
    let small = || prop::option::weighted(0.3, 0..4_u8);
    let message = prop_oneof![
        12 => (0..8_u8, prop::option::weighted(0.3, IDS), small())
            .prop_map(|(text, reply_to, mention)| Op::Send { text, reply_to, mention }),
        3 => (IDS, 0..8_u8).prop_map(|(target, text)| Op::Edit { target, text }),
        2 => IDS.prop_map(|target| Op::Delete { target }),
        5 => (IDS, 0..4_u8, prop::bool::weighted(0.7))
            .prop_map(|(target, emoji, add)| Op::React { target, emoji, add }),
    ];
    let poll = prop_oneof![
        4 => (prop_oneof![1 => 0..2_usize, 4 => 2..5_usize], 0..16_u8, prop::bool::weighted(0.2))
            .prop_map(|(options, flags, closes)| Op::CreatePoll { options, flags, closes }),
        16 => (IDS, prop::collection::vec(0..4_u8, 0..3), any::<bool>())
            .prop_map(|(poll, options, reason)| Op::Vote { poll, options, reason }),
        6 => IDS.prop_map(|poll| Op::Retract { poll }),
        1 => IDS.prop_map(|poll| Op::ClosePoll { poll }),
        1 => (0..40_u8).prop_map(|seconds| Op::Wait { seconds }),
    ];
    let llm = prop_oneof![
        3 => (0..4_u8, 0..4_u8).prop_map(|(llm, name)| Op::AddLlm { llm, name }),
        2 => (0..4_u8, small(), small()).prop_map(|(llm, name, model)| Op::UpdateLlm { llm, name, model }),
        1 => (0..4_u8).prop_map(|llm| Op::RemoveLlm { llm }),
        1 => runs(),
        5 => conduct::by_people().prop_map(Op::Conduct),
    ];
    let room = prop_oneof![
        2 => (small(), small(), prop::option::of(any::<bool>()))
            .prop_map(|(name, description, private)| Op::UpdateRoom { name, description, private }),
        4 => (others(), role()).prop_map(|(user, role)| Op::UpdateMember { user, role }),
        3 => (others(), any::<bool>()).prop_map(|(user, ban)| Op::RemoveMember { user, ban }),
        1 => Just(Op::Leave),
        1 => Just(Op::Create),
        6 => rights::rights().prop_map(Op::Rights),
    ];
    prop_oneof![240 => message, 100 => poll, 40 => llm, 30 => room, 15 => join(), 1 => Just(Op::EndRoom)]
        .boxed()
}
