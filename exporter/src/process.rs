//! Resources of the exporter's own process.

use procfs::process::Process;
use rustix::process::{Resource, getrlimit};

const SECOND_NS: u64 = 1_000_000_000;

/// Resources that the process uses.
#[derive(Clone, Copy, Debug)]
pub struct ProcessStats {
    /// CPU time in nanoseconds.
    pub cpu_ns: u64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Virtual memory.
    pub virtual_bytes: u64,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// Limit of open descriptors, if there is one.
    pub max_fds: Option<u64>,
    /// Start, in nanoseconds since 1970.
    pub started_ns: Option<u64>,
}

impl ProcessStats {
    /// Reads the statistics from `/proc/self`. `None` where it is not readable.
    pub(crate) fn read() -> Option<Self> {
        let process = Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let tick_ns = SECOND_NS / procfs::ticks_per_second().max(1);
        let booted = procfs::boot_time_secs().ok();
        let started = stat.starttime.saturating_mul(tick_ns);
        Some(Self {
            cpu_ns: stat.utime.saturating_add(stat.stime).saturating_mul(tick_ns),
            resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
            virtual_bytes: stat.vsize,
            open_fds: process.fd_count().ok().and_then(|count| u64::try_from(count).ok()),
            max_fds: getrlimit(Resource::Nofile).current,
            started_ns: booted.map(|secs| secs.saturating_mul(SECOND_NS).saturating_add(started)),
        })
    }
}
