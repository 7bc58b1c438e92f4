//! Kernel threads that serve the vhost devices of a process.
//!
//! Since Linux 6.4 they are threads of the process itself. Before, they are children of kthreadd
//! that are named after the process (`vhost-PID`), and are listed for all domains at once.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use procfs::process::Process;

/// How often the kernel's threads are listed: some hundreds, each with a file to read.
const RESCAN: Duration = Duration::from_secs(10);
/// Longest list of them, in bytes.
const MAX_LIST: u64 = 1 << 20;
/// The first kernel whose vhost threads are those of the process.
const OWN_THREADS: (u32, u32) = (6, 4);

/// One of the kernel's threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KernelThread {
    pub(crate) tid: i32,
    pub(crate) start_ticks: u64,
    pub(crate) run_ns: u64,
}

/// Where a process's vhost threads are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// Among its own.
    OfProcess,
    /// The kernel's; these.
    OfKernel(Vec<KernelThread>),
    /// The kernel's, which does not list them (CONFIG_PROC_CHILDREN).
    Unknown,
}

/// The vhost threads of a process.
pub(crate) fn threads_of(pid: i32) -> Threads {
    static LISTED: Mutex<Option<(Instant, Option<Listed>)>> = Mutex::new(None);
    let release = rustix::system::uname();
    if version(&release.release().to_string_lossy()).is_none_or(|found| found >= OWN_THREADS) {
        return Threads::OfProcess;
    }
    let proc = Path::new("/proc");
    let mut listed = LISTED.lock().unwrap_or_else(PoisonError::into_inner);
    let fresh = listed.take_if(|(at, _)| at.elapsed() < RESCAN);
    let (_, all) = listed.insert(fresh.unwrap_or_else(|| (Instant::now(), list(proc))));
    of_kernel(proc, all.as_ref(), pid)
}

/// Ids of the kernel's vhost threads, by the process that they serve.
type Listed = HashMap<i32, Vec<i32>>;

/// `None` if this kernel has no such list.
fn list(proc: &Path) -> Option<Listed> {
    let mut text = String::new();
    let file = File::open(proc.join("2/task/2/children")).ok()?;
    file.take(MAX_LIST).read_to_string(&mut text).ok()?;
    let mut listed = Listed::new();
    for tid in text.split_ascii_whitespace().filter_map(|id| id.parse::<i32>().ok()) {
        let mut name = String::new();
        let comm = File::open(proc.join(tid.to_string()).join("comm"));
        let read = comm.and_then(|file| file.take(64).read_to_string(&mut name));
        let serves = name.trim_end().strip_prefix("vhost-").and_then(|pid| pid.parse().ok());
        if let (Ok(_), Some(pid)) = (read, serves) {
            listed.entry(pid).or_default().push(tid);
        }
    }
    Some(listed)
}

fn of_kernel(proc: &Path, listed: Option<&Listed>, pid: i32) -> Threads {
    let Some(listed) = listed else { return Threads::Unknown };
    let thread = |&tid: &i32| {
        let process = Process::new_with_root(proc.join(tid.to_string())).ok()?;
        let stat = process.stat().ok()?;
        let run_ns = process.schedstat().ok()?.sum_exec_runtime;
        // The id may have been given to another process since they were listed.
        (stat.ppid == 2).then_some(())?;
        Some(KernelThread { tid, start_ticks: stat.starttime, run_ns })
    };
    Threads::OfKernel(listed.get(&pid).into_iter().flatten().filter_map(thread).collect())
}

/// Major and minor number of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("5.4-rc1"), Some((5, 4)));
        assert_eq!(version("next"), None);
        assert!((6, 18) > OWN_THREADS && (6, 3) < OWN_THREADS && (5, 15) < OWN_THREADS);
    }

    #[test]
    fn the_kernels_threads_are_found_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(of_kernel(dir.path(), list(dir.path()).as_ref(), 4711), Threads::Unknown);
        write("2/task/2/children", "3 90 91 92 nonsense 93 ");
        for (tid, comm, ppid) in [
            (3, "kworker/0:1", 2),
            (90, "vhost-4711", 2),
            (91, "vhost-12", 2),
            (92, "vhost-4711", 1),
        ] {
            write(&format!("{tid}/comm"), &format!("{comm}\n"));
            let zeros = "0 ".repeat(17);
            let stat = format!("{tid} ({comm}) S {ppid} {zeros}33 {}", "0 ".repeat(30));
            write(&format!("{tid}/stat"), &stat);
            write(&format!("{tid}/schedstat"), "1234 5 6\n");
        }
        let listed = list(dir.path());
        let expected = vec![KernelThread { tid: 90, start_ticks: 33, run_ns: 1234 }];
        assert_eq!(of_kernel(dir.path(), listed.as_ref(), 4711), Threads::OfKernel(expected));
        assert_eq!(of_kernel(dir.path(), listed.as_ref(), 5), Threads::OfKernel(Vec::new()));
    }
}
