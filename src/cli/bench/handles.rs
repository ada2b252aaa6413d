//! Open files: each connection is one, and a system lets a process have few unless it asks for more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Error;

/// What a process has open besides: standard streams, timers, the runtime, files of /proc.
const OTHERS: u64 = 64;

/// Sees to it that so many connections can be open.
pub(super) fn allow(connections: usize) -> Result<(), Error> {
    let needed = connections as u64 + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if maximum.is_some_and(|maximum| maximum < needed) {
        return Err(Error::Machine(format!(
            "{connections} connections need {needed} open files, and this machine allows a process {}: raise it \
             (`ulimit -Hn`, as root), or share connections with --streams-per-connection",
            maximum.unwrap_or_default()
        )));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
        .map_err(|error| Error::Machine(format!("{needed} open files are not allowed: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_machine_allows_is_refused_with_the_mend() {
        assert!(allow(1).is_ok());
        if getrlimit(Resource::Nofile).maximum.is_some() {
            let said = allow(usize::MAX >> 1).unwrap_err().to_string();
            assert!(said.contains("ulimit") && said.contains("--streams-per-connection"), "{said}");
        }
    }
}
