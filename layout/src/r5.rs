//! Revision 5: distributions, limits, queues, causes; and kinds of records that a region need not
//! have: shares of devices, histograms, labels.
//!
//! **Frozen.** A new field is a new group in a new module ([`crate::revision`]); no number, name or
//! meaning here changes again.

pub use crate::r4::{
    BlkExtent, BlkIdentity, BlkIo, BlkIoTimes, BlkIoTwin, BlkJob, BlkVbd, Cpu, Exits, Identity,
    JOB_KIND_NAMES, JOB_STATE_NAMES, Memory, NetIdentity, NetIo, RUNSTATE_NAMES, RunState,
    Runstate, RunstateTwin, Sched, SchedTwin, VCPU_GROUPS, VCPU_SIZE,
};

use crate::descriptor::{
    Group, GroupDesc, Kind, RecordKind, Revision, Unit, assert_appended, copies, groups,
};
use crate::histogram::{SizeBuckets, TimeBuckets, histograms};
use crate::labels::LabelText;
use crate::value::Word;

/// Names of [`Status::state`]'s values.
pub const STATUS_NAMES: &[&str] = &[
    "running",
    "paused",
    "suspended",
    "shutdown",
    "crashed",
    "dying",
    "migrating",
    "io_error",
    "unknown",
];
/// Names of [`Status::reason`]'s values.
pub const REASON_NAMES: &[&str] = &[
    "unknown",
    "started",
    "user",
    "guest",
    "migration",
    "snapshot",
    "saved",
    "io_error",
    "no_space",
    "watchdog",
    "panic",
    "host_error",
    "debug",
];
/// Names of [`Migration::state`]'s values.
pub const MIGRATION_STATE_NAMES: &[&str] = &[
    "none",
    "setup",
    "active",
    "paused",
    "postcopy",
    "device",
    "ending",
    "completed",
    "failed",
    "canceled",
];
/// Names of [`Lineage::cause`]'s values.
pub const CAUSE_NAMES: &[&str] = &["created", "restored", "reverted", "migrated"];

groups! {
    /// What hypervisor or VMM says of the domain (the region's own life is the header's `state`).
    /// Written by the domain's management thread, when the state changes.
    dom 3 at 448 len 48 since 5 Status "status" {
        /// 0 running, 1 paused, 2 suspended (by the guest), 3 shutdown, 4 crashed, 5 dying (being
        /// torn down), 6 migrating (stopped for the switch-over), 7 io_error, 8 unknown.
        16 state: Word, Kind::State(STATUS_NAMES), Unit::None;
        /// Why: 0 unknown, 1 started, 2 user, 3 guest, 4 migration, 5 snapshot, 6 saved,
        /// 7 io_error, 8 no_space, 9 watchdog, 10 panic, 11 host_error, 12 debug.
        24 reason: Word, Kind::State(REASON_NAMES), Unit::None;
        /// Since when, on the region's clock.
        32 since_ns: Word, Kind::Instant, Unit::Ns;
        /// Index of the block device whose error stopped the domain; not produced in other states.
        40 device: Word, Kind::Instant, Unit::None;
    }

    /// CPU time and number of the domain's host threads by role. Written by the domain's
    /// management thread, at its own interval. Times include threads that have ended.
    dom 4 at 496 len 96 since 5 Threads "threads" {
        /// CPU time of the vCPUs' threads.
        16 vcpu_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Threads that run vCPUs.
        24 vcpu_threads: Word, Kind::Instant, Unit::None;
        /// CPU time of threads that serve devices (QEMU's IOThreads).
        32 iothread_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Threads that serve devices.
        40 iothread_threads: Word, Kind::Instant, Unit::None;
        /// CPU time of the kernel's vhost threads for the domain.
        48 vhost_ns: Word, Kind::Cumulative, Unit::Ns;
        /// The kernel's vhost threads for the domain.
        56 vhost_threads: Word, Kind::Instant, Unit::None;
        /// CPU time of worker threads, which come and go with the load.
        64 worker_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Worker threads.
        72 worker_threads: Word, Kind::Instant, Unit::None;
        /// CPU time of all other threads: main loop, migration, display.
        80 other_ns: Word, Kind::Cumulative, Unit::Ns;
        /// All other threads.
        88 other_threads: Word, Kind::Instant, Unit::None;
    }

    /// Limits of the control group that holds the domain, and what they cost it. Written by the
    /// domain's management thread, at its own interval. The names are those of cgroup v2.
    dom 5 at 592 len 96 since 5 Limits "limits" {
        /// CPU time that the domain may use in a period (cpu.max); 0 is no limit.
        16 cpu_quota_ns: Word, Kind::Instant, Unit::Ns;
        /// Length of a period (cpu.max).
        24 cpu_period_ns: Word, Kind::Instant, Unit::Ns;
        /// Share of the CPU under contention (cpu.weight, 1 to 10000; 100 is usual).
        32 cpu_weight: Word, Kind::Instant, Unit::None;
        /// Periods in which the domain ran (nr_periods of cpu.stat).
        40 cpu_periods: Word, Kind::Cumulative, Unit::Events;
        /// Periods in which the quota was used up (nr_throttled of cpu.stat).
        48 cpu_throttled_periods: Word, Kind::Cumulative, Unit::Events;
        /// Time that its threads were kept from running by the quota (throttled_usec of cpu.stat).
        56 cpu_throttled_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Memory that it may not pass (memory.max); 0 is no limit.
        64 memory_max_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Memory above which it is slowed down and reclaimed from (memory.high); 0 is no limit.
        72 memory_high_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Times that it was slowed down for passing memory_high_bytes (high of memory.events).
        80 memory_high_events: Word, Kind::Cumulative, Unit::Events;
        /// Processes killed for lack of memory (oom_kill of memory.events).
        88 oom_kills: Word, Kind::Cumulative, Unit::Events;
    }

    /// Time that threads of the domain's control group lost for want of a resource: Linux'
    /// pressure stall information. Written by the domain's management thread, at its own interval.
    dom 6 at 688 len 64 since 5 Pressure "pressure" {
        /// Some thread waited for a CPU (some total of cpu.pressure).
        16 cpu_some_ns: Word, Kind::Cumulative, Unit::Ns;
        /// All threads waited for a CPU (full total of cpu.pressure).
        24 cpu_full_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Some thread waited for memory (some total of memory.pressure).
        32 memory_some_ns: Word, Kind::Cumulative, Unit::Ns;
        /// All threads waited for memory (full total of memory.pressure).
        40 memory_full_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Some thread waited for input or output (some total of io.pressure).
        48 io_some_ns: Word, Kind::Cumulative, Unit::Ns;
        /// All threads waited for input or output (full total of io.pressure).
        56 io_full_ns: Word, Kind::Cumulative, Unit::Ns;
    }

    /// What the guest's balloon driver reports beyond `memory`. Written by the domain's management
    /// thread when the guest has reported. The names are those of virtio's balloon statistics.
    dom 7 at 752 len 96 since 5 Balloon "balloon" {
        /// Memory that caches files and can be given back (balloon.disk_caches).
        16 disk_caches_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Huge pages that were allocated (balloon.hugetlb_pgalloc).
        24 hugetlb_pgalloc: Word, Kind::Cumulative, Unit::Events;
        /// Huge pages that could not be allocated (balloon.hugetlb_pgfail).
        32 hugetlb_pgfail: Word, Kind::Cumulative, Unit::Events;
        /// Processes that the guest's kernel killed for lack of memory.
        40 oom_kills: Word, Kind::Cumulative, Unit::Events;
        /// Allocations that had to wait for memory to be reclaimed.
        48 alloc_stalls: Word, Kind::Cumulative, Unit::Events;
        /// Pages that were scanned in the background.
        56 async_scan: Word, Kind::Cumulative, Unit::Events;
        /// Pages that were scanned by those that needed memory.
        64 direct_scan: Word, Kind::Cumulative, Unit::Events;
        /// Pages that were reclaimed in the background.
        72 async_reclaim: Word, Kind::Cumulative, Unit::Events;
        /// Pages that were reclaimed by those that needed memory.
        80 direct_reclaim: Word, Kind::Cumulative, Unit::Events;
        /// When the guest last reported, on the region's clock (balloon.last-update): the age of
        /// these numbers and of the guest's part of `memory`.
        88 last_update_ns: Word, Kind::Instant, Unit::Ns;
    }

    /// The domain's last migration away from this host, running or ended. Written by the domain's
    /// management thread on its events, and at its own interval between them. The names are those
    /// of QEMU's query-migrate.
    dom 8 at 848 len 96 since 5 Migration "migration" {
        /// 0 none, 1 setup, 2 active, 3 paused, 4 postcopy, 5 device, 6 ending (canceled and not
        /// yet stopped), 7 completed, 8 failed, 9 canceled.
        16 state: Word, Kind::State(MIGRATION_STATE_NAMES), Unit::None;
        /// When it began, on the region's clock.
        24 started_ns: Word, Kind::Instant, Unit::Ns;
        /// How long it takes so far, or took (total-time).
        32 total_ns: Word, Kind::Instant, Unit::Ns;
        /// How long its preparation took (setup-time).
        40 setup_ns: Word, Kind::Instant, Unit::Ns;
        /// How long the domain stood still, or is expected to (downtime, expected-downtime).
        48 downtime_ns: Word, Kind::Instant, Unit::Ns;
        /// Bytes of memory that were sent (ram.transferred).
        56 transferred_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Bytes of memory that are still to be sent (ram.remaining).
        64 remaining_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Bytes of memory that the domain changes in a second (ram.dirty-pages-rate).
        72 dirty_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Passes over the memory (ram.dirty-sync-count).
        80 iterations: Word, Kind::Instant, Unit::Events;
        /// Migrations that were begun.
        88 migrations: Word, Kind::Cumulative, Unit::Events;
    }

    /// Whether counters go on from what an earlier reader saw. Written by the creator of the
    /// region and whenever their continuity is broken.
    dom 9 at 944 len 48 since 5 Lineage "lineage" {
        /// Differs whenever the continuity of counters was broken although the domain is the same:
        /// it was restored, reverted or arrived by migration.
        16 session: Word, Kind::Instant, Unit::None;
        /// Incarnation of the region that this one follows, if it is known.
        24 previous_incarnation: Word, Kind::Id, Unit::None;
        /// Times that the domain arrived by migration.
        32 arrivals: Word, Kind::Cumulative, Unit::Events;
        /// How the session began: 0 created, 1 restored, 2 reverted, 3 migrated.
        40 cause: Word, Kind::State(CAUSE_NAMES), Unit::None;
    }

    /// How full the device's queue was. Written by whoever serves the device, when a request
    /// begins or ends. As of `updated_ns`; from then on the number in flight stands still, and
    /// both times grow as it says.
    blk 7 at 528 len 48 since 5 BlkQueue "queue" {
        /// Time with a request in flight.
        16 busy_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Integral of the requests in flight over time: divided by a time, the mean length of the
        /// queue.
        24 queued_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Requests that were accepted.
        32 submitted: Word, Kind::Cumulative, Unit::Events;
        /// Requests that were completed, in whatever way; those in flight are the difference.
        40 completed: Word, Kind::Cumulative, Unit::Events;
    }

    /// What was discarded. Written by whoever serves the device.
    blk 8 at 576 len 48 since 5 BlkDiscards "discards" {
        /// Discards that were completed (unmap_operations of QEMU).
        16 dis_req: Word, Kind::Cumulative, Unit::Events;
        /// Bytes that were discarded (unmap_bytes).
        24 dis_bytes: Word, Kind::Cumulative, Unit::Bytes;
        /// Time that completed discards took, in sum (unmap_total_time_ns).
        32 dis_total_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Discards that were merged into others (unmap_merged).
        40 dis_merged: Word, Kind::Cumulative, Unit::Events;
    }

    /// Requests that did not succeed, by operation. Written by whoever serves the device. Failed
    /// requests reached the storage, invalid ones were refused before it.
    blk 9 at 624 len 80 since 5 BlkFailures "failures" {
        /// Reads that failed (failed_rd_operations of QEMU).
        16 rd_failed: Word, Kind::Cumulative, Unit::Events;
        /// Writes that failed (failed_wr_operations).
        24 wr_failed: Word, Kind::Cumulative, Unit::Events;
        /// Flushes that failed (failed_flush_operations).
        32 flush_failed: Word, Kind::Cumulative, Unit::Events;
        /// Discards that failed (failed_unmap_operations).
        40 dis_failed: Word, Kind::Cumulative, Unit::Events;
        /// Reads that were refused (invalid_rd_operations).
        48 rd_invalid: Word, Kind::Cumulative, Unit::Events;
        /// Writes that were refused (invalid_wr_operations).
        56 wr_invalid: Word, Kind::Cumulative, Unit::Events;
        /// Flushes that were refused (invalid_flush_operations).
        64 flush_invalid: Word, Kind::Cumulative, Unit::Events;
        /// Discards that were refused (invalid_unmap_operations).
        72 dis_invalid: Word, Kind::Cumulative, Unit::Events;
    }

    /// What limits the device stands under, and what they cost it. Written by the domain's
    /// management thread when they change, or by whoever enforces them. 0 is no limit.
    blk 10 at 704 len 80 since 5 BlkLimits "limits" {
        /// Requests of all kinds in a second (iops of QEMU's query-block).
        16 limit_req: Word, Kind::Instant, Unit::Events;
        /// Reads in a second (iops_rd).
        24 rd_limit_req: Word, Kind::Instant, Unit::Events;
        /// Writes in a second (iops_wr).
        32 wr_limit_req: Word, Kind::Instant, Unit::Events;
        /// Bytes read and written in a second (bps).
        40 limit_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Bytes read in a second (bps_rd).
        48 rd_limit_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Bytes written in a second (bps_wr).
        56 wr_limit_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Requests that had to wait for a limit.
        64 throttled_req: Word, Kind::Cumulative, Unit::Events;
        /// Time that requests waited for a limit, in sum.
        72 throttled_ns: Word, Kind::Cumulative, Unit::Ns;
    }

    /// What limits the interface stands under, and what they cost it. Written by the domain's
    /// management thread when they change, or by whoever enforces them. 0 is no limit.
    net 2 at 256 len 80 since 5 NetLimits "limits" {
        /// Bytes received in a second.
        16 rx_limit_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Packets received in a second.
        24 rx_limit_packets: Word, Kind::Instant, Unit::Events;
        /// Packets that had to wait for a limit in receiving.
        32 rx_throttled_packets: Word, Kind::Cumulative, Unit::Events;
        /// Time that packets waited for a limit in receiving, in sum.
        40 rx_throttled_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Bytes sent in a second.
        48 tx_limit_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Packets sent in a second.
        56 tx_limit_packets: Word, Kind::Instant, Unit::Events;
        /// Packets that had to wait for a limit in sending.
        64 tx_throttled_packets: Word, Kind::Cumulative, Unit::Events;
        /// Time that packets waited for a limit in sending, in sum.
        72 tx_throttled_ns: Word, Kind::Cumulative, Unit::Ns;
    }

    /// Single waits for a physical CPU: steal, one by one. Written by whoever schedules or runs
    /// the vCPU, when a wait ends.
    vcpu_hist 0 at 32 len 352 since 5 Wait "wait" {
        /// All waits in sum.
        16 sum_ns: Word, Kind::Cumulative, Unit::Ns;
        /// The longest.
        24 max_ns: Word, Kind::Peak, Unit::Ns;
        /// Waits by length: word i counts those whose bit length is i, the last all above.
        32 ns: TimeBuckets, Kind::LogHistogram, Unit::Ns;
    }

    /// How long reads took, from acceptance to completion. Written by whoever serves the device.
    blk_hist 0 at 32 len 352 since 5 RdLatency "rd_latency" {
        /// All reads in sum.
        16 sum_ns: Word, Kind::Cumulative, Unit::Ns;
        /// The longest.
        24 max_ns: Word, Kind::Peak, Unit::Ns;
        /// Reads by length: word i counts those whose bit length is i, the last all above.
        32 ns: TimeBuckets, Kind::LogHistogram, Unit::Ns;
    }

    /// How long writes took, from acceptance to completion. Written by whoever serves the device.
    blk_hist 1 at 384 len 352 since 5 WrLatency "wr_latency" {
        /// All writes in sum.
        16 sum_ns: Word, Kind::Cumulative, Unit::Ns;
        /// The longest.
        24 max_ns: Word, Kind::Peak, Unit::Ns;
        /// Writes by length: word i counts those whose bit length is i, the last all above.
        32 ns: TimeBuckets, Kind::LogHistogram, Unit::Ns;
    }

    /// How long flushes took, from acceptance to completion. Written by whoever serves the device.
    blk_hist 2 at 736 len 352 since 5 FlLatency "fl_latency" {
        /// All flushes in sum.
        16 sum_ns: Word, Kind::Cumulative, Unit::Ns;
        /// The longest.
        24 max_ns: Word, Kind::Peak, Unit::Ns;
        /// Flushes by length: word i counts those whose bit length is i, the last all above.
        32 ns: TimeBuckets, Kind::LogHistogram, Unit::Ns;
    }

    /// How large reads were. Written by whoever serves the device.
    blk_hist 3 at 1088 len 288 since 5 RdSize "rd_size" {
        /// All reads in sum.
        16 sum_bytes: Word, Kind::Cumulative, Unit::Bytes;
        /// The largest.
        24 max_bytes: Word, Kind::Peak, Unit::Bytes;
        /// Reads by size: word i counts those whose bit length is i, the last all above.
        32 bytes: SizeBuckets, Kind::LogHistogram, Unit::Bytes;
    }

    /// How large writes were. Written by whoever serves the device.
    blk_hist 4 at 1376 len 288 since 5 WrSize "wr_size" {
        /// All writes in sum.
        16 sum_bytes: Word, Kind::Cumulative, Unit::Bytes;
        /// The largest.
        24 max_bytes: Word, Kind::Peak, Unit::Bytes;
        /// Writes by size: word i counts those whose bit length is i, the last all above.
        32 bytes: SizeBuckets, Kind::LogHistogram, Unit::Bytes;
    }

    /// What the operator calls the domain by: tenant, project, service. Written once by the
    /// creator of the region, before it is published; constant within an incarnation.
    labels 0 at 32 len 1040 since 5 Labels "labels" {
        /// Lines of `key=value`, each ended by a line feed; keys of a-z, 0-9, `_` and `.`, no key
        /// twice; UTF-8, terminated by a zero byte.
        16 text: LabelText, Kind::Text, Unit::None;
    }

    /// Which device, and which of its queues, the share is of. Written by the owner of the record
    /// when the share is given out; constant until the slot is given to another (`generation`).
    blk_queue 0 at 32 len 48 since 5 BlkQueueOf "of" {
        /// Index of the block device.
        16 device: Word, Kind::Id, Unit::None;
        /// The device's generation; a share of an earlier one no longer counts.
        24 generation: Word, Kind::Id, Unit::None;
        /// Number of the queue in the device.
        32 queue: Word, Kind::Id, Unit::None;
        /// The process that writes the share, if it is not the domain's own.
        40 pid: Word, Kind::Id, Unit::None;
    }

    /// Which interface, and which of its queues, the share is of. Written by the owner of the
    /// record when the share is given out; constant until the slot is given to another
    /// (`generation`).
    net_queue 0 at 32 len 48 since 5 NetQueueOf "of" {
        /// Index of the network interface.
        16 device: Word, Kind::Id, Unit::None;
        /// The interface's generation; a share of an earlier one no longer counts.
        24 generation: Word, Kind::Id, Unit::None;
        /// Number of the queue in the interface.
        32 queue: Word, Kind::Id, Unit::None;
        /// The process that writes the share, if it is not the domain's own.
        40 pid: Word, Kind::Id, Unit::None;
    }
}

copies! {
    /// One queue's share of the device's `io`. Written by whoever serves the queue.
    blk_queue 1 at 80 len 64 since 5 BlkQueueIo "io" as BlkIo;
    /// One queue's share of the device's `io_times`. Written by whoever serves the queue.
    blk_queue 2 at 144 len 48 since 5 BlkQueueIoTimes "io_times" as BlkIoTimes;
    /// One queue's share of the device's `queue`. Written by whoever serves the queue.
    blk_queue 3 at 192 len 48 since 5 BlkQueueQueue "queue" as BlkQueue;
    /// One queue's share of the device's `discards`. Written by whoever serves the queue.
    blk_queue 4 at 240 len 48 since 5 BlkQueueDiscards "discards" as BlkDiscards;
    /// One queue's share of the device's `failures`. Written by whoever serves the queue.
    blk_queue 5 at 288 len 80 since 5 BlkQueueFailures "failures" as BlkFailures;
    /// One queue's share of the device's `rd_latency`. Written by whoever serves the queue.
    blk_queue 6 at 368 len 352 since 5 BlkQueueRdLatency "rd_latency" as RdLatency;
    /// One queue's share of the device's `wr_latency`. Written by whoever serves the queue.
    blk_queue 7 at 720 len 352 since 5 BlkQueueWrLatency "wr_latency" as WrLatency;
    /// One queue's share of the device's `fl_latency`. Written by whoever serves the queue.
    blk_queue 8 at 1072 len 352 since 5 BlkQueueFlLatency "fl_latency" as FlLatency;
    /// One queue's share of the device's `rd_size`. Written by whoever serves the queue.
    blk_queue 9 at 1424 len 288 since 5 BlkQueueRdSize "rd_size" as RdSize;
    /// One queue's share of the device's `wr_size`. Written by whoever serves the queue.
    blk_queue 10 at 1712 len 288 since 5 BlkQueueWrSize "wr_size" as WrSize;
    /// One queue's share of the interface's `io`. Written by whoever serves the queue.
    net_queue 1 at 80 len 80 since 5 NetQueueIo "io" as NetIo;
}

/// This revision's number.
pub const REVISION: u32 = 5;
/// Groups of the dom record, in order of their bits.
pub const DOM_GROUPS: &[&GroupDesc; 10] = &[
    Identity::DESC,
    Memory::DESC,
    Cpu::DESC,
    Status::DESC,
    Threads::DESC,
    Limits::DESC,
    Pressure::DESC,
    Balloon::DESC,
    Migration::DESC,
    Lineage::DESC,
];
/// Groups of the blk record, in order of their bits.
pub const BLK_GROUPS: &[&GroupDesc; 11] = &[
    BlkIdentity::DESC,
    BlkIo::DESC,
    BlkIoTimes::DESC,
    BlkExtent::DESC,
    BlkVbd::DESC,
    BlkJob::DESC,
    BlkIoTwin::DESC,
    BlkQueue::DESC,
    BlkDiscards::DESC,
    BlkFailures::DESC,
    BlkLimits::DESC,
];
/// Groups of the net record, in order of their bits.
pub const NET_GROUPS: &[&GroupDesc; 3] = &[NetIdentity::DESC, NetIo::DESC, NetLimits::DESC];
/// Groups of a blk_queue record, in order of their bits.
pub const BLK_QUEUE_GROUPS: &[&GroupDesc; 11] = &[
    BlkQueueOf::DESC,
    BlkQueueIo::DESC,
    BlkQueueIoTimes::DESC,
    BlkQueueQueue::DESC,
    BlkQueueDiscards::DESC,
    BlkQueueFailures::DESC,
    BlkQueueRdLatency::DESC,
    BlkQueueWrLatency::DESC,
    BlkQueueFlLatency::DESC,
    BlkQueueRdSize::DESC,
    BlkQueueWrSize::DESC,
];
/// Groups of a net_queue record, in order of their bits.
pub const NET_QUEUE_GROUPS: &[&GroupDesc; 2] = &[NetQueueOf::DESC, NetQueueIo::DESC];
/// Groups of a vcpu_hist record, in order of their bits.
pub const VCPU_HIST_GROUPS: &[&GroupDesc; 1] = &[Wait::DESC];
/// Groups of a blk_hist record, in order of their bits.
pub const BLK_HIST_GROUPS: &[&GroupDesc; 5] =
    &[RdLatency::DESC, WrLatency::DESC, FlLatency::DESC, RdSize::DESC, WrSize::DESC];
/// Groups of the labels record, in order of their bits.
pub const LABELS_GROUPS: &[&GroupDesc; 1] = &[Labels::DESC];
/// Length of the dom record as this revision builds it.
pub const DOM_SIZE: usize = 992;
/// Length of a blk record as this revision builds it.
pub const BLK_SIZE: usize = 784;
/// Length of a net record as this revision builds it.
pub const NET_SIZE: usize = 336;
/// Length of a blk_queue record as this revision builds it.
pub const BLK_QUEUE_SIZE: usize = 2000;
/// Length of a net_queue record as this revision builds it.
pub const NET_QUEUE_SIZE: usize = 160;
/// Length of a vcpu_hist record as this revision builds it.
pub const VCPU_HIST_SIZE: usize = 384;
/// Length of a blk_hist record as this revision builds it.
pub const BLK_HIST_SIZE: usize = 1664;
/// Length of the labels record as this revision builds it.
pub const LABELS_SIZE: usize = 1072;
/// This revision as a value.
pub const REV: &Revision = &Revision {
    number: REVISION,
    records: &[
        (RecordKind::Dom, DOM_GROUPS),
        (RecordKind::Vcpu, VCPU_GROUPS),
        (RecordKind::Blk, BLK_GROUPS),
        (RecordKind::Net, NET_GROUPS),
        (RecordKind::ArchDom, &[]),
        (RecordKind::ArchVcpu, &[]),
        (RecordKind::BlkQueue, BLK_QUEUE_GROUPS),
        (RecordKind::NetQueue, NET_QUEUE_GROUPS),
        (RecordKind::ArchBlk, &[]),
        (RecordKind::ArchNet, &[]),
        (RecordKind::VcpuHist, VCPU_HIST_GROUPS),
        (RecordKind::BlkHist, BLK_HIST_GROUPS),
        (RecordKind::Labels, LABELS_GROUPS),
    ],
    arch_and_schema: true,
};

const _: () = {
    assert_appended(DOM_GROUPS, crate::record::DOM_HEADER_LEN);
    assert_appended(VCPU_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert_appended(BLK_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert_appended(NET_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert_appended(BLK_QUEUE_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert_appended(NET_QUEUE_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert_appended(VCPU_HIST_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert_appended(BLK_HIST_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert_appended(LABELS_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert!(Lineage::DESC.end() == DOM_SIZE);
    assert!(BlkLimits::DESC.end() == BLK_SIZE);
    assert!(NetLimits::DESC.end() == NET_SIZE);
    assert!(BlkQueueWrSize::DESC.end() == BLK_QUEUE_SIZE);
    assert!(NetQueueIo::DESC.end() == NET_QUEUE_SIZE);
    assert!(Wait::DESC.end() == VCPU_HIST_SIZE);
    assert!(WrSize::DESC.end() == BLK_HIST_SIZE);
    assert!(Labels::DESC.end() == LABELS_SIZE);
};

histograms! {
    Wait: sum_ns, max_ns, ns;
    RdLatency: sum_ns, max_ns, ns;
    WrLatency: sum_ns, max_ns, ns;
    FlLatency: sum_ns, max_ns, ns;
    RdSize: sum_bytes, max_bytes, bytes;
    WrSize: sum_bytes, max_bytes, bytes;
}
histograms! {
    BlkQueueRdLatency as RdLatency;
    BlkQueueWrLatency as WrLatency;
    BlkQueueFlLatency as FlLatency;
    BlkQueueRdSize as RdSize;
    BlkQueueWrSize as WrSize;
}
