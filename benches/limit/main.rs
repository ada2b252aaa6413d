//! What a delivery costs at least, and what it costs here: Salon beside servers that do as little as can be done, all
//! under the same load, in one run.
//!
//! ```text
//! cargo bench --bench limit                                     # nine shapes, three rounds: about 20 minutes
//! cargo bench --bench limit -- --shapes P1,S1 --rounds 1        # a first look
//! cargo bench --bench limit -- --shapes all --markdown          # everything, as the tables only
//! cargo bench --bench limit -- --serve tcp --port 9000          # one of the servers, for a load of one's own
//! cargo bench --bench limit -- --original 'exec env PORT={port} /path/to/server'   # beside a server of the original's contract
//! ```
//!
//! | server | what it is |
//! |---|---|
//! | `salon` | the binary that was just built, in-memory store, everything on; its limits for people are raised |
//! | `tcp` | rooms on plain TCP: one log of bytes for a room, a position in it for a member, one write a turn |
//! | `bare` | tonic with bytes that are ready and a body of its own; a map of rooms, and nothing else |
//! | `naive` | tonic as it is mostly written: a channel for each member, a clone and an encoding for each delivery |
//! | `nats` | the `nats-server` on the path, if there is one: a subject for a room, core NATS without its log |
//! | `salon-original` | Salon, spoken to as clients of the original do (`api.room.Room`), in which nothing is acknowledged |
//! | `original` | another server of that contract, if `--original` says how it is started |
//!
//! Why that is fair: all get the same messages from the same generator (`salon bench`) and send the same bytes to the same
//! members, on connections with `TCP_NODELAY`, with the same allocator. Each server has one processor for
//! itself, and the generator another. What is compared is processor time of the server for each delivery, the kernel's
//! work for the network included, as the scheduler counts it: not what the generator happens to manage. Servers take
//! turns, so that a slow minute of the machine is everybody's, and only medians of one run are divided by each other. A
//! run in which a delivery was lost, came twice or came in the wrong order has failed, and so has the command.
//!
//! Why it is not: `tcp`, `bare` and `naive` keep nothing and allow everything; Salon decides, remembers, counts and can be
//! asked for what was missed. `nats` does even less: it has an allocator of its own, is told the bare text without the
//! message around it, and acknowledges nothing. How close it comes all the same is the question. In the saturated shapes the generator has
//! one processor as well, and sets how much there is to send in one turn; a better one would make all of them cheaper.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its tables, and how far it is")]

mod run;
mod serve;

use clap::Parser;

use crate::serve::Serve;

// As in the program itself: an allocator must not be the difference.
#[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Salon beside servers that do as little as can be done, under the same load.
#[derive(Debug, Parser)]
struct Args {
    /// Be one of the servers to compare with, instead of running all of them
    #[arg(long, value_enum, value_name = "KIND", requires = "port")]
    serve: Option<Serve>,
    /// The port of that server
    #[arg(long)]
    port: Option<u16>,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
    /// What is run.
    #[command(flatten)]
    options: run::Options,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match (args.serve, args.port) {
        (Some(kind), Some(port)) => serve::serve(kind, port),
        _ => run::run(&args.options),
    }
}
