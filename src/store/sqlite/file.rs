//! Opening: everything that can be wrong with a file is found here, before anything is written to it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use crate::store::{
    Error, ErrorKind,
    config::{Durability, StoreConfig},
    sqlite::{
        failure::{caused, error, failed},
        schema,
    },
};

/// How long another program (an operator's shell, a backup) may keep the file locked before a call fails.
const BUSY: Duration = Duration::from_secs(5);

/// Pages in the write-ahead log before it is folded into the file: 64 MiB. At SQLite's own 1000 the slowest hundredth
/// of commits took five times as long.
const CHECKPOINT_PAGES: i64 = 16_384;

/// What the writer keeps of the file, in KiB: the pages of the indexes that a thousand busy rooms are writing to. With
/// SQLite's own 2 MiB a full transaction spills, which costs up to a quarter of the throughput.
const WRITER_CACHE_KIB: i64 = 64 * 1024;

/// More than there are statements, so that none is ever parsed twice.
const STATEMENTS: usize = 64;

/// A file that is ready to be written to, and only by us.
#[derive(Debug)]
pub(super) struct Opened {
    /// The file itself, whatever name was given for it.
    pub(super) path: PathBuf,
    /// For the writer.
    pub(super) connection: Connection,
    /// Keeps others out until it is dropped.
    pub(super) lock: File,
}

/// Opens the file of `config`, creates it if there is none, and brings it to this build's version.
pub(super) fn open(config: &StoreConfig) -> Result<Opened, Error> {
    let path = resolve(&config.path)?;
    let lock = lock(&path)?;
    refuse_read_only(&path)?;
    let about_file = |mut error: Error| {
        error.what = format!("{} ({})", error.what, path.display());
        error
    };
    let mut connection = open_connection(&path).map_err(about_file)?;
    configure(&mut connection, config).map_err(about_file)?;
    Ok(Opened { path, connection, lock })
}

/// A connection that can only read.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// A connection that sees the file as it is now, as long as it lives.
pub(super) fn open_snapshot(config: &StoreConfig) -> Result<Connection, Error> {
    let path = &config.path;
    if !path.is_file() {
        let what = format!("finds no file at {}: correct store.path", path.display());
        return Err(error(ErrorKind::Unusable, what));
    }
    let about_file = |mut error: Error| {
        error.what = format!("{} ({})", error.what, path.display());
        error
    };
    let connection =
        open_reader(path).map_err(|source| about_file(failed("open its file to read", source)))?;
    connection
        .execute_batch("BEGIN")
        .map_err(|source| about_file(failed("begin to read its file", source)))?;
    // The first look at the file fixes the moment.
    schema::inspect(&connection).map_err(about_file)?;
    schema::is_newest(&connection).map_err(about_file)?;
    Ok(connection)
}

/// Creates the directory and follows links, so that one file has one lock.
fn resolve(path: &Path) -> Result<PathBuf, Error> {
    let unusable = |source: io::Error| {
        let what =
            format!("cannot use {}: correct store.path or the rights of its directory", path.display());
        caused(ErrorKind::Unusable, what, source)
    };
    let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
        let what = format!("needs a file, and {} is a directory: correct store.path", path.display());
        return Err(error(ErrorKind::Unusable, what));
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(unusable)?;
    match fs::canonicalize(path) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            Ok(fs::canonicalize(parent).map_err(unusable)?.join(name))
        }
        found => found.map_err(unusable),
    }
}

/// Takes the file for this process. The operating system lets go of it however the process ends.
fn lock(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let unusable = |source: io::Error| {
        let what = format!("cannot lock {}: check the rights of its directory", name.display());
        caused(ErrorKind::Unusable, what, source)
    };
    let file = File::options().write(true).create(true).truncate(false).open(&name).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let what = format!(
                "is in use by another server ({}): stop that one, or set store.path to another file",
                path.display()
            );
            Err(error(ErrorKind::Unusable, what))
        }
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

/// A file marked as read-only is left alone even by a user who may write to everything.
fn refuse_read_only(path: &Path) -> Result<(), Error> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().readonly() => Err(read_only(path)),
        _ => Ok(()),
    }
}

fn read_only(path: &Path) -> Error {
    let what = format!(
        "cannot write to {}, which is read-only: make it writable, or set store.path to another file",
        path.display()
    );
    error(ErrorKind::Unusable, what)
}

fn open_connection(path: &Path) -> Result<Connection, Error> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|source| {
        caused(ErrorKind::Unusable, "cannot open its file: check its rights, or set store.path", source)
    })?;
    schema::inspect(&connection)?;
    // SQLite opens a file that it may not write to all the same, to read.
    match connection.is_readonly("main") {
        Ok(false) => Ok(connection),
        Ok(true) => Err(read_only(path)),
        Err(source) => Err(failed("open its file", source)),
    }
}

fn configure(connection: &mut Connection, config: &StoreConfig) -> Result<(), Error> {
    let set = |connection: &Connection| -> rusqlite::Result<String> {
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let mode =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
        let synchronous = match config.durability {
            Durability::Fsync => "FULL",
            Durability::Os => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        // Negative: in KiB and not in pages.
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        let checkpoint = format!("PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}");
        connection.query_row(&checkpoint, [], |_| Ok(()))?;
        limit_size(connection, config.max_bytes)?;
        Ok(mode)
    };
    let mode = set(connection).map_err(|source| failed("set up its file", source))?;
    if mode != "wal" {
        let what = "needs a write-ahead log, which the file system here does not allow: set store.path to a \
                    local disk";
        return Err(error(ErrorKind::Unusable, what));
    }
    schema::migrate(connection)?;
    schema::touch(connection)
}

/// SQLite counts in pages. A file that is larger already keeps its size and grows no more.
fn limit_size(connection: &Connection, max_bytes: Option<u64>) -> rusqlite::Result<()> {
    let Some(max_bytes) = max_bytes else { return Ok(()) };
    let page: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let pages = i64::try_from(max_bytes).unwrap_or(i64::MAX) / page.max(1);
    connection.query_row(&format!("PRAGMA max_page_count = {}", pages.max(1)), [], |_| Ok(()))
}
