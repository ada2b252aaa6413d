//! The model that answers in simulations: it says a few words, slowly, calls others, and fails as the weather has it.

use std::sync::{Arc, Mutex};

use salon::llm::{
    Error, ErrorKind, Finish, Provider,
    scripted::{ScriptedProvider, Step},
};

use super::{random::Random, world::World};

/// The LLMs of every room.
pub const LLMS: [&str; 2] = ["ada", "bob"];

/// One that draws its answers from `random`.
pub fn provider(world: &Arc<World>, random: Random) -> Arc<dyn Provider> {
    let (world, random) = (Arc::clone(world), Mutex::new(random));
    Arc::new(ScriptedProvider::with("scripted", move |_| {
        let fails = world.weather().llm_fails;
        answer(&mut random.lock().unwrap(), fails)
    }))
}

fn answer(random: &mut Random, fails: u32) -> Vec<Step> {
    let mut steps = Vec::new();
    if random.percent(fails / 2) {
        return vec![Step::Error(error(ErrorKind::Overloaded))];
    }
    steps.push(Step::Pause(random.millis(5..=300)));
    for word in 0..=random.below(4) {
        steps.push(Step::text(format!("word {word} ")));
        steps.push(Step::Pause(random.millis(1..=250)));
    }
    if random.percent(fails) {
        steps.push(match random.below(3) {
            0 => Step::Stall,
            _ => Step::Error(error(ErrorKind::Network)),
        });
        return steps;
    }
    if random.percent(8) {
        steps.push(Step::text(format!("@{}", random.pick(&LLMS))));
    }
    steps.push(Step::Usage { prompt_tokens: 10, completion_tokens: 5 });
    steps.push(Step::Done(Finish::Stop));
    steps
}

fn error(kind: ErrorKind) -> Error {
    Error {
        kind,
        provider: "scripted".to_owned(),
        message: "fails in the simulation".to_owned(),
        retry_after: None,
    }
}
