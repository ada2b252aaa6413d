//! The run: every shape on every server, in turns, and the tables of what came out.
//!
//! A server is started anew for each run, so that none carries what another has left. What fails is told at once and
//! again at the end; the rest goes on, and the command fails.

mod child;
mod goals;
mod outcome;
mod shapes;
mod table;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;

pub(crate) use self::child::Kind;
use self::{
    child::{Pins, Server},
    goals::Medians,
    outcome::{Figures, Outcome},
    shapes::{Load, Shape},
};

/// Beside the time of a load: to connect, to join, and to hear what is still on its way.
const BESIDE: Duration = Duration::from_secs(240);
/// How long silence is measured at least, where a run is to say anything (not by `--smoke`): what a session takes then are its
/// signs of life, each 30 s.
const IDLE_SECONDS: f64 = 65.0;
/// File handles of a process that are no connections.
const OTHER_HANDLES: usize = 200;

/// What is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often each shape is run on each server
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each run is measured, after a warm-up of a fifth of it or a second at most; silence for a minute at least
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Shapes: main (the default), scale, idle, all, or names, with commas
    #[arg(long, value_delimiter = ',')]
    shapes: Vec<String>,
    /// Servers, with commas; all that are here, if nothing is said
    #[arg(long, value_enum, value_delimiter = ',')]
    servers: Vec<Kind>,
    /// A server of the original's contract, as a shell starts it, in an empty directory: {port} stands for its port, which
    /// is in `GRPC_PORT` as well
    #[arg(long, value_name = "COMMAND")]
    original: Option<String>,
    /// A file for everything that was measured, run by run
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print the tables only, without what each run says of itself
    #[arg(long)]
    markdown: bool,
    /// See that everything works: one round of 0.3 s each, whose figures say nothing
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    smoke: bool,
}

/// One run that was made.
struct Run {
    shape: &'static str,
    kind: Kind,
    round: u32,
    outcome: Outcome,
}

/// Runs everything and prints the tables; fails if a run has.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let shapes = shapes::chosen(&options.shapes)?;
    let kinds = if options.servers.is_empty() { Kind::ALL.to_vec() } else { options.servers.clone() };
    let original = options.original.as_deref();
    let (away, here): (Vec<Kind>, Vec<Kind>) =
        kinds.into_iter().partition(|kind| kind.why_missing(original).is_some());
    for kind in away {
        eprintln!("{} is left out: {}", kind.name(), kind.why_missing(original).unwrap_or_default());
    }
    let handles = raise_handles()?;
    let (fitting, large): (Vec<Shape>, Vec<Shape>) =
        shapes.into_iter().partition(|shape| shape.connections() + OTHER_HANDLES <= handles);
    for shape in large {
        eprintln!("{} is left out: it needs more than {handles} file handles", shape.name);
    }
    let pins = Pins::find();
    match (pins.server, pins.generator) {
        (Some(server), Some(generator)) => {
            eprintln!("servers on processor {server}, the generator on processor {generator}");
        }
        _ => eprintln!("one processor only: servers and the generator share it, and disturb each other"),
    }
    let (rounds, seconds) = if options.smoke { (1, 0.3) } else { (options.rounds, options.seconds) };
    let plan =
        Plan { shapes: fitting, kinds: here, original: options.original.clone(), rounds, seconds, pins };
    let (runs, failed) = Builder::new_current_thread().enable_all().build()?.block_on(async {
        tokio::select! {
            all = plan.carry_out() => all,
            // What was started ends with it.
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    })?;
    tell(options, &plan, &runs)?;
    if !failed.is_empty() {
        anyhow::bail!("{} runs have failed:\n{}", failed.len(), failed.join("\n"));
    }
    Ok(())
}

struct Plan {
    shapes: Vec<Shape>,
    kinds: Vec<Kind>,
    original: Option<String>,
    rounds: u32,
    seconds: f64,
    pins: Pins,
}

impl Plan {
    async fn carry_out(&self) -> anyhow::Result<(Vec<Run>, Vec<String>)> {
        let (mut runs, mut failed) = (Vec::new(), Vec::new());
        for shape in &self.shapes {
            for round in 1..=self.rounds {
                for &kind in self.kinds.iter().filter(|kind| shape.suits(**kind)) {
                    let name = format!("{} {} round {round}/{}", shape.name, kind.name(), self.rounds);
                    match self.once(shape, kind).await {
                        Ok(outcome) if outcome.problems.is_empty() => {
                            eprintln!("{name}: {}", summary(&outcome.figures));
                            runs.push(Run { shape: shape.name, kind, round, outcome });
                        }
                        Ok(outcome) => {
                            let why = outcome.problems.join(", ");
                            eprintln!("{name}: FAILED, {why}: {}", summary(&outcome.figures));
                            failed.push(format!("{name}: {why}"));
                        }
                        Err(error) => {
                            eprintln!("{name}: FAILED, {error:#}");
                            failed.push(format!("{name}: {error:#}"));
                        }
                    }
                }
            }
        }
        Ok((runs, failed))
    }

    /// One shape on one server, which lives as long as that.
    async fn once(&self, shape: &Shape, kind: Kind) -> anyhow::Result<Outcome> {
        let dir = tempfile::tempdir().context("cannot make a directory")?;
        let mut server = Server::start(kind, self.original.as_deref(), self.pins.server, dir.path()).await?;
        let mut arguments = shape.arguments();
        let warm_up = (self.seconds / 5.0).min(1.0);
        let seconds = match shape.load {
            Load::Idle if self.seconds >= 1.0 => self.seconds.max(IDLE_SECONDS),
            _ => self.seconds,
        };
        if shape.load != Load::Idle {
            arguments.extend(["--warm-up".into(), warm_up.to_string()]);
        }
        arguments.extend(["--duration".into(), seconds.to_string()]);
        let limit = BESIDE + Duration::try_from_secs_f64(seconds + warm_up)?;
        let output = server.load(&arguments, self.pins.generator, limit, dir.path()).await?;
        server.stop().await?;
        outcome::read(&output, shape)
    }
}

fn summary(figures: &Figures) -> String {
    format!(
        "{:.2} µs a delivery, {} a second, p50 {}, p99 {}, {:.1} KiB a session, generator {:.0} %",
        figures.cpu_us,
        table::grouped(figures.per_second),
        table::time(figures.p50_us),
        table::time(figures.p99_us),
        figures.kib_per_session,
        figures.generator_cpu * 100.0,
    )
}

fn tell(options: &Options, plan: &Plan, runs: &[Run]) -> anyhow::Result<()> {
    let mut grouped = Vec::new();
    let mut medians = Medians::new();
    for shape in &plan.shapes {
        for kind in &plan.kinds {
            let is_it = |run: &&Run| run.shape == shape.name && run.kind == *kind;
            let all: Vec<Figures> = runs.iter().filter(is_it).map(|run| run.outcome.figures).collect();
            if let Some(median) = outcome::median(&all) {
                medians.push((shape.name, *kind, median));
                grouped.push((shape.name, *kind, all));
            }
        }
    }
    if let Some(file) = &options.json {
        write_json(file, plan, runs, &medians)?;
    }
    if !options.markdown {
        println!("\nMedians of {} rounds of {} s\n", plan.rounds, plan.seconds);
    }
    println!("{}", table::figures(&plan.shapes, &grouped, &medians));
    println!("{}", table::ratios(&plan.shapes, &medians));
    println!("{}", table::others(&medians));
    Ok(())
}

fn write_json(file: &PathBuf, plan: &Plan, runs: &[Run], medians: &Medians) -> anyhow::Result<()> {
    let run = |run: &Run| {
        serde_json::json!({
            "shape": run.shape, "server": run.kind.name(), "round": run.round, "figures": run.outcome.figures,
            "said": run.outcome.said,
        })
    };
    let median = |(shape, kind, figures): &(&str, Kind, Figures)| serde_json::json!({ "shape": shape, "server": kind.name(), "figures": figures });
    let ratios = plan.shapes.iter().flat_map(|shape| goals::ratios(medians, shape.name));
    let goals: Vec<goals::Check> = ratios.chain(goals::others(medians)).collect();
    let all = serde_json::json!({
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "server_processor": plan.pins.server,
        "generator_processor": plan.pins.generator,
        "runs": runs.iter().map(run).collect::<Vec<_>>(),
        "medians": medians.iter().map(median).collect::<Vec<_>>(),
        "goals": goals,
    });
    std::fs::write(file, format!("{all:#}\n")).with_context(|| format!("cannot write {}", file.display()))
}

/// As many file handles as this process, and so its children, may have.
fn raise_handles() -> anyhow::Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("cannot raise the number of file handles")?;
    Ok(limit.maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX)))
}
