//! Probe of a micro-VM that runs, to cross-check what it publishes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::books::Totals;
use super::disk::{NR_QUEUES, Queue};
use super::shared::VcpuShared;
use super::stats_fd::{KvmStat, StatsFd};

/// Looks at a micro-VM from outside of what it publishes. It stays valid while the VM runs.
#[derive(Clone)]
pub struct KvmProbe {
    pub(super) vcpus: Arc<[Arc<VcpuShared>]>,
    pub(super) queues: Arc<[Queue; NR_QUEUES]>,
}

/// What the VMM counted for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Requests that were accepted.
    pub submitted: u64,
    /// Requests that have ended.
    pub completed: u64,
    /// Reads that succeeded.
    pub reads: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Flushes that succeeded.
    pub flushes: u64,
}

/// What the VMM counted for one vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuCounts {
    /// The id of the thread that runs it; 0 before it runs.
    pub tid: i32,
    /// Exits from KVM_RUN for port I/O.
    pub io_exits: u64,
    /// Exits from KVM_RUN because it halted.
    pub hlt_exits: u64,
    /// Exits from KVM_RUN because of a signal.
    pub intr_exits: u64,
    /// CPU time of its thread in nanoseconds (CLOCK_THREAD_CPUTIME_ID), read right after the time
    /// that the last published runstate is as of.
    pub cpu_ns: u64,
}

impl KvmProbe {
    /// What the VMM counted for vCPU `index`; `None` if there is no such vCPU.
    #[must_use]
    pub fn counts(&self, index: u32) -> Option<VcpuCounts> {
        let vcpu = self.vcpu(index)?;
        Some(VcpuCounts {
            tid: vcpu.tid.load(Ordering::Relaxed),
            io_exits: vcpu.io_exits.load(Ordering::Relaxed),
            hlt_exits: vcpu.hlt_exits.load(Ordering::Relaxed),
            intr_exits: vcpu.intr_exits.load(Ordering::Relaxed),
            cpu_ns: vcpu.cpu_ns.load(Ordering::Relaxed),
        })
    }

    /// What KVM itself counted for vCPU `index`, from its statistics file descriptor; `None` if
    /// there is no such vCPU or this kernel has no such descriptor.
    ///
    /// # Errors
    /// What the host says.
    pub fn kvm_stats(&self, index: u32) -> io::Result<Option<Vec<KvmStat>>> {
        self.vcpu(index).and_then(|vcpu| vcpu.stats.as_ref()).map(StatsFd::read).transpose()
    }

    /// What the VMM counted for the requests of queue `index` of the disk; `None` if there is no
    /// such queue.
    #[must_use]
    pub fn disk_counts(&self, index: usize) -> Option<DiskCounts> {
        let Totals { io, times, queue, .. } = self.queues.get(index)?.totals();
        Some(DiskCounts {
            submitted: queue.submitted.value()?,
            completed: queue.completed.value()?,
            reads: io.rd_req.value()?,
            writes: io.wr_req.value()?,
            flushes: times.flush_req.value()?,
        })
    }

    /// Wakes vCPU `index` as a device would: at once if it has halted, or else when it halts next.
    pub fn kick(&self, index: u32) {
        if let Some(vcpu) = self.vcpu(index) {
            vcpu.kick();
        }
    }

    fn vcpu(&self, index: u32) -> Option<&VcpuShared> {
        self.vcpus.get(usize::try_from(index).ok()?).map(Arc::as_ref)
    }
}
