//! Programs for libFuzzer around the functions in `tests/salon/fuzzed/`, which `cargo test` runs as well.
//!
//! `.ci/run fuzz` builds them with the compiler that builds Salon, by stable flags, and lets each run for 30 s; with
//! `cargo-fuzz` and a nightly compiler `cargo fuzz run commands` does the same with an address sanitizer. The inputs in
//! `corpus/` are kept in the repository. An input that fails is added to them together with its mend, and
//! `SALON_FUZZ_SEEDS=1 cargo test --test salon fuzzed::` writes the seeds anew.

#[path = "../../tests/salon/fuzzed/mod.rs"]
pub mod fuzzed;
