//! What reads bytes of others, fed with any bytes: one function for each target of the fuzzer.
//!
//! A function returns for whatever it is given, and panics when Salon does or when a rule is broken. The fuzzer
//! (`fuzz/`) builds these very files around libFuzzer; here the inputs that it has kept, and the seeds it began with,
//! are run again by `cargo test`. What makes one of them fail is put into `fuzz/corpus/` together with its mend.
#![allow(dead_code, reason = "each of the two programs that are built of this uses a part")]

mod commands;
mod configurations;
mod cursors;
mod hints;
mod mentions;
mod opening;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod seeds;
mod stored;
mod tokens;

pub use self::{
    commands::commands, configurations::configuration, cursors::cursor, hints::hint, mentions::mention,
    stored::stored, tokens::token,
};

/// A function that is fed.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its program and of its folder in `fuzz/corpus/`.
pub const TARGETS: [(&str, Target); 7] = [
    ("commands", commands),
    ("configuration", configuration),
    ("cursor", cursor),
    ("hint", hint),
    ("mention", mention),
    ("stored", stored),
    ("token", token),
];

/// What stands between the pieces of an input: no text has it, and a cut or a copy of the fuzzer leaves it whole.
pub const BETWEEN: [u8; 2] = [0xFF, 0xFE];

/// The pieces of an input; never none.
fn pieces(data: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(BETWEEN.len()).position(|two| two == BETWEEN) {
        pieces.push(&rest[..at]);
        rest = &rest[at + BETWEEN.len()..];
    }
    pieces.push(rest);
    pieces
}
