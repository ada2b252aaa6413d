//! Pieces of the way of a message, each to be repeated under a counter of instructions: `.ci/guards` compares what one
//! repetition costs with `benches/guards.baseline`.
//!
//! `guards` names the pieces and does each once; `guards NAME TIMES` does one so many times. What is prepared does not
//! depend on TIMES, so the difference between two runs is the cost of the repetitions alone. Nothing here is random, no
//! other thread runs, and no socket is opened.
#![allow(missing_debug_implementations, clippy::unwrap_used, reason = "a bench ends when something is wrong")]
#![allow(clippy::print_stdout, reason = "for the script that reads it")]

mod deciding;
mod delivering;

/// Most repetitions of a piece in one run: as many are prepared.
const MOST: usize = 512;

/// Does the repetition of this number; each is done once, in order.
type Repeat = Box<dyn FnMut(usize)>;

/// Makes what is counted.
type Piece = fn() -> Repeat;

/// By its name in the baseline: what prepares a piece, and leaves its repetitions.
const PIECES: &[(&str, Piece)] = &[
    ("read_command", deciding::read_command),
    ("decide_message", deciding::decide_message),
    ("encode_event", deciding::encode_event),
    ("decide_apply_encode", deciding::decide_apply_encode),
    ("deliver_event_to_100", delivering::event),
    ("deliver_chunk_to_100", delivering::chunk),
    ("deliver_typing_to_100", delivering::typing),
    ("poll_1_frame", || delivering::poll(1)),
    ("poll_8_frames", || delivering::poll(8)),
];

fn main() {
    // Timers are made and never run: nothing but the piece is counted.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let given: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    match given.as_slice() {
        [] => {
            for (name, prepare) in PIECES {
                prepare()(0);
                println!("{name}");
            }
        }
        [name, times] => {
            let (_, prepare) = PIECES.iter().find(|(known, _)| known == name).unwrap();
            let times: usize = times.parse().unwrap();
            assert!(times <= MOST, "at most {MOST} repetitions are prepared");
            let mut repeat = prepare();
            (0..times).for_each(&mut repeat);
            // What is left over is not taken down: that would be counted too.
            std::process::exit(0);
        }
        _ => println!("guards [NAME TIMES]"),
    }
}
