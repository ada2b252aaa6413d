//! See `salon_fuzz::fuzzed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| salon_fuzz::fuzzed::token(data));
