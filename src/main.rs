//! The binary: arguments, configuration, telemetry, then the server or a client command.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};
use salon::{
    cli::{
        admin::{self, args::Admin},
        args::{self, Args, Command, RoomsCommand},
        bench,
        chat::{self, ChatOptions},
        client, completions,
        exit::Exit,
        health::{self, HealthOptions},
        log::{self, LogOptions},
        rooms::{
            self, RoomsOptions,
            generate::{self, GenerateOptions},
        },
        tls::{TlsOptions, Trust},
        usage::{self, UsageOptions},
    },
    clock::{Clock as _, SystemClock},
    config::{self, AuthMode, ClientAuth, Config, Loaded},
    ops::{
        self,
        verify::{Finding, Report, heads::Heads},
    },
    server::{self, Parts, Server, graph::store_config},
    store::{
        self,
        config::{StoreConfig, StoreKind},
    },
    telemetry,
    wire::backup::End,
};
use tokio::{
    io::BufReader,
    signal::unix::{SignalKind, signal},
};

// Less memory for each connection than with glibc's, and less work for each delivery.
#[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long `salon chat` waits for answers after its input has ended.
const CHAT_WAIT: Duration = Duration::from_secs(60);
/// Rooms that `salon rooms` prints; 0: all.
const ALL: u32 = 0;

fn main() -> ExitCode {
    let args = Args::parse();
    let file = args.config.clone();
    let result = match args.into_command() {
        Command::Serve => serve_command(file.as_deref()),
        Command::Config => config_command(file.as_deref()),
        Command::Setup => setup_command(file.as_deref()),
        Command::Completions { shell } => {
            completions::write(shell, &mut io::stdout()).map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Command::Backup { file: to } => store_command(file.as_deref(), StoreCommand::Backup(to)),
        Command::Restore(restore) => store_command(file.as_deref(), StoreCommand::Restore(restore)),
        Command::Admin(Admin::Bootstrap(args)) => {
            store_command(file.as_deref(), StoreCommand::Bootstrap(args))
        }
        Command::Verify(verify) => store_command(file.as_deref(), StoreCommand::Verify(verify)),
        command => client_command(file.as_deref(), command),
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "salon: {error:#}");
        ExitCode::FAILURE
    })
}

/// The configuration, or its problems on standard error and the code that says so.
fn load(file: Option<&Path>) -> Result<Loaded, ExitCode> {
    let refused = |error: anyhow::Error| {
        let _ = writeln!(io::stderr(), "salon: {error:#}");
        ExitCode::from(config::EXIT_CODE)
    };
    let loaded = config::load(file, Path::new("."), env::vars_os()).map_err(|error| refused(error.into()))?;
    server::graph::check_models(&loaded.config).map_err(|error| refused(error.into()))?;
    Ok(loaded)
}

/// Turns of tasks after which a server of one thread looks at its sockets and timers although tasks are left. With fewer it
/// looks before it has told anybody of what it has read, and so seldom has two events for one write
/// (docs/adr/0023-busy-rooms-are-told-several-events-at-once.md); with more a timer may be late by more than about a tenth of a
/// second.
const TURNS: u32 = 10_000;

/// What the server runs on. On one processor one thread does everything: a second one would only take turns with it, and
/// under load some would wait for their turn.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    match processors {
        1 => tokio::runtime::Builder::new_current_thread().event_interval(TURNS).enable_all().build(),
        _ => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
    }
}

fn config_command(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    match load(file) {
        Ok(loaded) => {
            io::stdout().write_all(config::show(&loaded).as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(code) => Ok(code),
    }
}

fn serve_command(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = match load(file) {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    telemetry::init(&config.log)?;
    let runtime = runtime()?;
    runtime.block_on(serve(config))?;
    // A provider that hangs in a blocking call must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(ExitCode::SUCCESS)
}

/// Makes what the store needs, and says what was done.
fn setup_command(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = match load(file) {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    telemetry::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(store::open::set_up(&server::graph::store_config(&config)));
    for line in done.context("cannot set up the store")? {
        writeln!(io::stdout(), "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    // The port is taken before any work is done, so that a second server fails at once; connections are refused until
    // they are served.
    let bound = server::bind(&config).await?;
    let parts = tokio::select! {
        parts = Parts::open(&config) => parts?,
        // A store or a bus whose server is away is waited for.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let provider = parts.router.default_provider().to_owned();
    let mut server = Server::start(&config, parts, None).await?;
    if let Err(error) = server.listen_on(bound) {
        server.shutdown(Duration::ZERO).await;
        return Err(error.into());
    }
    greet(&config, &server, &provider);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::select! {
        () = server.shutdown(config.limits.drain) => {}
        // A second signal means now.
        _ = terminate.recv() => tracing::warn!("ended at once, by a second signal"),
        _ = interrupt.recv() => tracing::warn!("ended at once, by a second signal"),
    }
    Ok(())
}

/// Says where it listens, and how to join.
fn greet(config: &Config, server: &Server, provider: &str) {
    let Some(address) = server.address() else {
        return;
    };
    let (scheme, tls) = if config.tls.is_on() { ("https", "on") } else { ("http", "off") };
    tracing::info!(%address, tls, store = ?config.store.kind, llm = provider, "listening");
    match (config.auth.mode, config.tls.is_on()) {
        (AuthMode::Open, true) => tracing::info!("auth.mode is open: users are who they say they are"),
        (AuthMode::Open, false) => {
            tracing::info!("auth.mode is open: users are who they say they are, and nothing is encrypted");
        }
        (AuthMode::Required, true) => {}
        (AuthMode::Required, false) => tracing::info!("tls.certificate is not set: nothing is encrypted"),
    }
    let here = format!("{scheme}://{}", reachable(address));
    let option = if here == args::DEFAULT_SERVER { String::new() } else { format!(" --server {here}") };
    // As it was started: `cargo run` puts nothing on the path.
    let program = env::args_os()
        .next()
        .map(|program| program.to_string_lossy().into_owned())
        .unwrap_or_else(|| "salon".to_owned());
    let _ = writeln!(
        io::stdout(),
        "listening on {scheme}://{address}\n\nJoin a room from another terminal:\n\n    {program} chat lobby --create{option}\n"
    );
}

/// What somebody on this machine calls a server that listens on every address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// What is done with a store, in place of serving it.
enum StoreCommand {
    Backup(PathBuf),
    Restore(args::Restore),
    Verify(args::Verify),
    Bootstrap(admin::args::Bootstrap),
}

fn store_command(file: Option<&Path>, command: StoreCommand) -> anyhow::Result<ExitCode> {
    let config = match load(file) {
        Ok(loaded) => loaded.config,
        Err(code) => return Ok(code),
    };
    telemetry::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let store = store_config(&config);
    runtime.block_on(async {
        match command {
            StoreCommand::Backup(to) => back_up(&store, &to).await,
            StoreCommand::Restore(restore) => restore_into(&store, &restore).await,
            StoreCommand::Bootstrap(args) => bootstrap(&store, args.force).await,
            StoreCommand::Verify(asked) => verify(&store, &asked).await,
        }
    })
}

async fn back_up(config: &StoreConfig, to: &Path) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let store = store::open::open_to_read(config).await?;
    // Who stops waiting for it takes the unfinished file away.
    let done = tokio::select! {
        done = ops::backup::run(store.as_ref(), to, SystemClock.now()) => Some(done),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    store.close().await?;
    let done = done.context("ended by a signal: there is no backup")??;
    writeln!(io::stdout(), "{}: {}", to.display(), amount(done))?;
    Ok(ExitCode::SUCCESS)
}

/// How much there is of what.
fn amount(End { rooms, events, accounts, documents }: End) -> String {
    let logs = format!("{}, {}", counted(rooms, "room"), counted(events, "event"));
    format!("{logs}, {}, {}", counted(accounts, "account"), counted(documents, "document"))
}

/// So many of what is called this.
fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

async fn restore_into(config: &StoreConfig, restore: &args::Restore) -> anyhow::Result<ExitCode> {
    let args::Restore { file, resume, check } = restore;
    let found = ops::restore::check(file)?;
    if *check {
        writeln!(io::stdout(), "{} is whole: {}", file.display(), amount(found))?;
        return Ok(ExitCode::SUCCESS);
    }
    if config.kind == StoreKind::Memory {
        anyhow::bail!("the memory store would be gone at once: set store.kind to one that stays");
    }
    let store = store::open::open(config).await?;
    let done = ops::restore::run(store.as_ref(), file, *resume).await;
    store.close().await?;
    done?;
    writeln!(io::stdout(), "restored: {}", amount(found))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the first key of a server that has none.
async fn bootstrap(config: &StoreConfig, force: bool) -> anyhow::Result<ExitCode> {
    if config.kind == StoreKind::Memory {
        anyhow::bail!("the memory store would be gone at once: set store.kind to one that stays");
    }
    let store = store::open::open(config).await?;
    let made = ops::bootstrap::run(Arc::clone(&store), Arc::new(SystemClock), force).await;
    store.close().await?;
    let made = made?;
    // The key alone goes to the standard output, so that it can be written to a file without being shown.
    writeln!(io::stderr(), "key {} of the server, scope admin; it is shown only now:", made.id)?;
    writeln!(io::stdout(), "{}", made.secret.expose())?;
    Ok(ExitCode::SUCCESS)
}

/// The exit status of `salon verify` when something is wrong: not to be taken for a store that cannot be reached.
const UNSOUND: u8 = 3;

async fn verify(config: &StoreConfig, asked: &args::Verify) -> anyhow::Result<ExitCode> {
    // Before the work, not behind it.
    if let Some(file) = asked.write_heads.as_ref().filter(|file| file.exists()) {
        return Err(ops::Error::Exists { file: file.clone() }.into());
    }
    let kept = asked.heads.as_deref().map(Heads::read).transpose()?.unwrap_or_default();
    let mut now = Heads::default();
    let store = store::open::open_to_read(config).await?;
    let mut tell = |finding: Finding| {
        let _ = writeln!(io::stdout(), "{finding}");
    };
    let done = ops::verify::run_with(store.as_ref(), &kept, &mut now, &mut tell).await;
    store.close().await?;
    let Report { rooms, events, findings, is_ledger_busy } = done?;
    let but = if is_ledger_busy { ", the ledger not to its end, because answers are open" } else { "" };
    let seen = format!("looked at {} and {}{but}", counted(rooms, "room"), counted(events, "event"));
    if findings == 0 {
        if let Some(file) = &asked.write_heads {
            now.write(file)?;
            writeln!(io::stdout(), "{}: {}", file.display(), counted(now.rooms(), "head"))?;
        }
        writeln!(io::stdout(), "{seen}: nothing is wrong")?;
        return Ok(ExitCode::SUCCESS);
    }
    let are = if findings == 1 { "is" } else { "are" };
    writeln!(io::stdout(), "{seen}: {} {are} wrong", counted(findings, "thing"))?;
    if let Some(file) = &asked.write_heads {
        writeln!(io::stdout(), "{} was not written", file.display())?;
    }
    Ok(ExitCode::from(UNSOUND))
}

fn client_command(file: Option<&Path>, command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut out = io::stdout();
    let result = runtime.block_on(async {
        Ok::<Exit, anyhow::Error>(match command {
            Command::Admin(Admin::Call(call)) => admin::run(call, SystemClock.now(), &mut out).await?,
            Command::Bench(load) => bench::run(&load, &mut out).await?,
            Command::Chat(chat) => chat::run(chat_options(chat)).await?,
            Command::Rooms(args::Rooms { command: Some(RoomsCommand::Generate(args)), .. }) => {
                let is_terminal = io::stdin().is_terminal() && out.is_terminal();
                let terminal = is_terminal.then(|| BufReader::new(tokio::io::stdin()));
                generate::run(generate_options(args), terminal, &mut out).await?
            }
            Command::Rooms(args) => {
                let options = RoomsOptions {
                    server: args.server.into(),
                    user: args.user.id,
                    json: args.json,
                    limit: ALL,
                };
                rooms::run(options, &mut out).await?
            }
            Command::Usage(args) => {
                let args::Usage { server, user, room, json } = args;
                usage::run(UsageOptions { server: server.into(), user, room, json }, &mut out).await?
            }
            Command::Log(args) => {
                let limit = args.limit.unwrap_or_default();
                let options = LogOptions {
                    server: args.server.into(),
                    room: args.room,
                    after: args.after,
                    limit,
                    user: args.user.id,
                };
                log::run(options, &mut out).await?
            }
            Command::Health(args) => health::run(health_options(args, file)?, &mut out).await?,
            Command::Serve
            | Command::Setup
            | Command::Config
            | Command::Completions { .. }
            | Command::Admin(Admin::Bootstrap(_))
            | Command::Backup { .. }
            | Command::Restore(_)
            | Command::Verify(_) => {
                Args::command().print_help()?;
                Exit::Failure
            }
        })
    });
    runtime.shutdown_background();
    Ok(result?.into())
}

fn chat_options(chat: args::Chat) -> ChatOptions {
    let server: client::Server = chat.server.into();
    ChatOptions {
        user: chat.user.id.unwrap_or_else(|| nobody_else(&server)),
        server,
        room: chat.room,
        name: chat.name,
        create: chat.create,
        invitation: chat.invitation.unwrap_or_default(),
        color: chat::style::ColorChoice::Auto,
        resume_after: None,
        wait: CHAT_WAIT,
    }
}

/// Without a server the one of this configuration is asked: it may have another port, and TLS.
fn health_options(health: args::Health, file: Option<&Path>) -> anyhow::Result<HealthOptions> {
    let args::Health { server, tls, service, timeout } = health;
    let server = match server {
        Some(url) => client::Server { url, tls: tls.into(), token: None },
        None => own_server(&config::load(file, Path::new("."), env::vars_os())?.config, tls.into()),
    };
    Ok(HealthOptions { server, service, timeout })
}

/// The server of this configuration, as this machine reaches it.
fn own_server(config: &Config, given: TlsOptions) -> client::Server {
    let config::Tls { certificate, key, client_auth, .. } = &config.tls;
    let scheme = if config.tls.is_on() { "https" } else { "http" };
    let host = match config.grpc.host.parse::<IpAddr>() {
        Ok(ip) => reachable(SocketAddr::new(ip, config.grpc.port)).to_string(),
        Err(_) => format!("{}:{}", config.grpc.host, config.grpc.port),
    };
    let own = certificate.clone().zip(key.clone()).filter(|_| *client_auth == ClientAuth::Required);
    let tls = TlsOptions {
        // Its certificate names what clients call it, which is not this address.
        trust: if given.trust == Trust::Machine { Trust::Own } else { given.trust },
        identity: given.identity.or(own),
    };
    client::Server { url: format!("{scheme}://{host}"), tls, token: None }
}

fn generate_options(args: args::Generate) -> GenerateOptions {
    let args::Generate { prompt, server, user, accept, json } = args;
    let server: client::Server = server.into();
    GenerateOptions { user: user.id.unwrap_or_else(|| nobody_else(&server)), server, prompt, accept, json }
}

/// Who asks, where nobody says it: whom the credential speaks for, or whoever sits here.
fn nobody_else(server: &client::Server) -> String {
    match server.token.is_some() || server.tls.identity.is_some() {
        true => String::new(),
        false => machine_user(),
    }
}

/// Who somebody is on this machine.
fn machine_user() -> String {
    ["USER", "LOGNAME", "USERNAME"]
        .iter()
        .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| "guest".to_owned())
}
