//! What is wrong with a configuration, and where each value came from.
//!
//! A problem names the key, the value, its origin, the rule and the mend. A value that could be a secret is never
//! part of one.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// The exit status of a process whose configuration was refused: `EX_CONFIG` of `sysexits.h`.
pub const EXIT_CODE: u8 = 78;

/// What stands where a secret would.
pub const HIDDEN: &str = "***";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// This file.
    File(PathBuf),
    /// This variable of the environment.
    Variable(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// Where every value that is not a default came from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    keys: BTreeMap<String, Source>,
}

impl Sources {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { file, keys: BTreeMap::new() }
    }

    pub(super) fn insert(&mut self, key: String, source: Source) {
        self.keys.insert(key, source);
    }

    /// The file that was read, if there was one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Where the value of `key` came from.
    pub fn of(&self, key: &str) -> Source {
        self.keys.get(key).cloned().unwrap_or(Source::Default)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, with its sections: `grpc.port`.
    pub key: String,
    /// The value as it was written; none if it is missing, or if nobody can know that it is no secret.
    pub value: Option<String>,
    /// Where the value came from.
    pub source: Source,
    /// What is allowed.
    pub rule: String,
    /// What to write instead.
    pub mend: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if self.source != Source::Default {
            write!(f, " (from {})", self.source)?;
        }
        write!(f, " {}; {}", self.rule, self.mend)
    }
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(
        "config file `{}` cannot be read; give the path of a readable file with --config, or leave it out to start with the defaults",
        .path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not YAML.
    #[error("config file `{}` is not valid YAML: {reason}; mend the line it names", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        reason: String,
    },
    /// Keys or values are wrong: all that were found.
    #[error("the configuration has {}:{}", Count(.0.len()), List(.0))]
    Refused(Vec<Problem>),
}

impl Error {
    /// Every problem with a key that was found.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Refused(problems) => problems,
            Self::Unreadable { .. } | Self::Syntax { .. } => &[],
        }
    }
}

struct Count(usize);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} problem{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

struct List<'a>(&'a [Problem]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}
