//! What a server on this machine costs, as the kernel counts it.
//!
//! Processor time comes in nanoseconds from the scheduler, thread by thread, and is no less than what the kernel counts for
//! the process as a whole, in which threads that have ended are. Beside it stands the kernel's own work for the network on
//! the server's processors (`ksoftirqd`), which no process is charged with. Linux only: elsewhere, and for a server on
//! another machine, there are no such figures, and the report says so.

use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// A process of this machine.
#[derive(Debug, Clone)]
pub(super) struct Process {
    /// Its number.
    pub pid: u32,
    /// What the kernel calls it: who listens on a port may only be on the way to the server.
    pub name: String,
    root: PathBuf,
    /// The threads that do the kernel's work on the processors that it may use.
    softirqs: Vec<PathBuf>,
}

/// What a process has used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Processor time.
    pub cpu: Duration,
    /// That of the kernel's threads beside it; none: they cannot be seen.
    pub softirq: Option<Duration>,
    /// Memory that it holds.
    pub rss_kib: u64,
    /// Threads.
    pub threads: usize,
}

impl Process {
    /// The process with this number.
    pub(super) fn of(pid: u32) -> Option<Self> {
        Self::below(Path::new("/proc"), pid)
    }

    /// The process that listens on this address of this machine.
    pub(super) fn listening(address: SocketAddr) -> Option<Self> {
        if !address.ip().to_canonical().is_loopback() {
            return None;
        }
        let root = Path::new("/proc");
        let tables =
            ["net/tcp", "net/tcp6"].map(|table| fs::read_to_string(root.join(table)).unwrap_or_default());
        let inodes: HashSet<String> =
            tables.iter().flat_map(|table| listeners(table, address.port())).collect();
        Self::below(root, owner(root, &inodes)?)
    }

    fn below(root: &Path, pid: u32) -> Option<Self> {
        let own = root.join(pid.to_string());
        let status = fs::read_to_string(own.join("status")).ok()?;
        let processors = field(&status, "Cpus_allowed_list:").map(processors).unwrap_or_default();
        let softirqs = numbers(root).filter_map(|(_, path)| {
            let name = fs::read_to_string(path.join("comm")).ok()?;
            let processor = name.trim().strip_prefix("ksoftirqd/")?.parse().ok()?;
            processors.contains(&processor).then_some(path)
        });
        let name = fs::read_to_string(own.join("comm")).unwrap_or_default();
        let name = crate::cli::text::line(name.trim());
        Some(Self { pid, name, softirqs: softirqs.collect(), root: own })
    }

    /// What it has used up until now; none: it is gone.
    pub(super) fn used(&self) -> Option<Used> {
        let threads: Vec<Duration> =
            numbers(&self.root.join("task")).filter_map(|(_, path)| run_time(&path)).collect();
        let statm = fs::read_to_string(self.root.join("statm")).ok()?;
        let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let softirq = self.softirqs.iter().map(|path| run_time(path)).sum();
        let stat = fs::read_to_string(self.root.join("stat")).unwrap_or_default();
        Some(Used {
            // Of threads that have ended only the whole knows, to a hundredth of a second.
            cpu: threads.iter().sum::<Duration>().max(whole_time(&stat).unwrap_or_default()),
            softirq: softirq_of(&self.softirqs, softirq),
            rss_kib: pages * page / 1024,
            threads: threads.len(),
        })
    }
}

/// What this thread has used of its processor: with one for all of the generator, what that has.
pub(super) fn own() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.try_into().unwrap_or_default(), spent.tv_nsec.try_into().unwrap_or_default())
}

/// The processor time in a process' `stat`, its own and the kernel's for it, of all threads there ever were.
fn whole_time(stat: &str) -> Option<Duration> {
    // Its name is in brackets, and may have any others.
    let (_, behind) = stat.rsplit_once(')')?;
    let mut words = behind.split_ascii_whitespace().skip(11);
    let user: u64 = words.next()?.parse().ok()?;
    let kernel: u64 = words.next()?.parse().ok()?;
    let tick = Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second()).ok()?.max(1);
    Some(tick * u32::try_from(user + kernel).ok()?)
}

fn softirq_of(paths: &[PathBuf], sum: Option<Duration>) -> Option<Duration> {
    if paths.is_empty() { None } else { sum }
}

/// The directories below `root` that have a number for a name.
fn numbers(root: &Path) -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

/// How long a thread has run.
fn run_time(path: &Path) -> Option<Duration> {
    let stat = fs::read_to_string(path.join("schedstat")).ok()?;
    Some(Duration::from_nanos(stat.split_ascii_whitespace().next()?.parse().ok()?))
}

/// The inodes of the sockets in a table of the kernel that listen on this port.
fn listeners(table: &str, port: u16) -> impl Iterator<Item = String> {
    const LISTENING: &str = "0A";
    table.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_ascii_whitespace();
        let local = words.nth(1)?;
        let state = words.nth(1)?;
        let (_, local_port) = local.rsplit_once(':')?;
        let is_ours = state == LISTENING && u16::from_str_radix(local_port, 16) == Ok(port);
        let inode = words.nth(5)?;
        is_ours.then(|| inode.to_owned())
    })
}

/// The process that holds one of these sockets.
fn owner(root: &Path, inodes: &HashSet<String>) -> Option<u32> {
    let holds = |path: &Path| {
        let handles = fs::read_dir(path.join("fd")).into_iter().flatten().flatten();
        handles.into_iter().any(|handle| {
            let target = fs::read_link(handle.path()).unwrap_or_default();
            let inode = target.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']'));
            inode.is_some_and(|inode| inodes.contains(inode))
        })
    };
    numbers(root).find(|(_, path)| holds(path)).map(|(pid, _)| pid)
}

/// The value behind a name, in a file of such lines.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The processors of a list like `0-2,5`.
fn processors(list: &str) -> Vec<u32> {
    let ranges = list.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(processors("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(processors("3"), [3]);
        assert_eq!(processors(""), Vec::<u32>::new());
    }

    #[test]
    fn sockets_that_listen_are_told_from_those_that_are_connected() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:C384 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:C384 0100007F:9000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
";
        assert_eq!(listeners(table, 0xC384).collect::<Vec<_>>(), ["4711"]);
        assert_eq!(listeners(table, 22).collect::<Vec<_>>(), ["4713"]);
        assert_eq!(listeners(table, 1).count(), 0);
    }

    #[test]
    fn what_threads_have_used_that_ended_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join("7").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let stat = |ticks: u64| format!("7 (a (b) c) S 1 7 7 0 -1 0 0 0 0 0 {ticks} {ticks} 0 0 20 0 2 0 5");
        write("status", "Name:\tx\n");
        write("comm", "docker-proxy\n");
        write("statm", "100 10 0 0 0 0 0\n");
        write("task/7/schedstat", "1000000 5 5\n");
        write("task/8/schedstat", "4000000000 5 5\n");
        write("stat", &stat(200));
        let process = Process::below(root.path(), 7).unwrap();
        assert_eq!(process.name, "docker-proxy");
        let tick = Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap();
        let before = process.used().unwrap();
        assert_eq!(before.cpu, Duration::from_nanos(4_001_000_000).max(tick * 400));
        fs::remove_dir_all(root.path().join("7/task/8")).unwrap();
        write("stat", &stat(250));
        let after = process.used().unwrap();
        assert_eq!((after.cpu, after.threads), (tick * 500, 1));
        assert!(after.cpu > before.cpu);
    }

    /// Work for many ticks of any clock.
    const ENOUGH: std::time::Duration = std::time::Duration::from_secs(30);

    #[test]
    fn the_generators_own_work_is_counted() {
        let (before, mut sum) = (own(), 0_u64);
        let until = std::time::Instant::now() + ENOUGH;
        while own() <= before {
            assert!(std::time::Instant::now() < until, "nothing is counted");
            sum = std::hint::black_box((0..1000_u64).fold(sum, u64::wrapping_add));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_found_by_its_port_and_its_work_is_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let process = Process::listening(listener.local_addr().unwrap()).unwrap();
        assert_eq!(process.pid, std::process::id());
        let before = process.used().unwrap();
        assert!(before.rss_kib > 100 && before.threads >= 1, "{before:?}");
        // The kernel writes down what a thread has used when it looks at it.
        let mut sum = 0_u64;
        let until = std::time::Instant::now() + ENOUGH;
        while process.used().unwrap().cpu <= before.cpu {
            assert!(std::time::Instant::now() < until, "nothing is counted");
            sum = std::hint::black_box((0..100_000_u64).fold(sum, u64::wrapping_add));
        }
        assert!(Process::of(u32::MAX).is_none());
        assert!(Process::listening("192.0.2.1:80".parse().unwrap()).is_none());
    }
}
