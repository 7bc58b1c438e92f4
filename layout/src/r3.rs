//! Revision 3: latencies, extent, Xen's request kinds and jobs of block devices.
//!
//! **Frozen.** A new field is a new group in a new module ([`crate::revision`]); no number, name or
//! meaning here changes again.

pub use crate::r2::{
    BlkIdentity, BlkIo, Cpu, DOM_GROUPS, DOM_SIZE, Exits, Identity, Memory, RUNSTATE_NAMES,
    RunState, Runstate, Sched, VCPU_GROUPS, VCPU_SIZE,
};

use crate::descriptor::{
    Group, GroupDesc, Kind, RecordKind, Revision, Unit, assert_appended, groups,
};
use crate::value::Word;

/// Names of [`BlkJob::kind`]'s values.
pub const JOB_KIND_NAMES: &[&str] =
    &["none", "pull", "copy", "commit", "active_commit", "backup", "other"];
/// Names of [`BlkJob::state`]'s values.
pub const JOB_STATE_NAMES: &[&str] =
    &["none", "running", "paused", "ready", "ending", "completed", "failed", "canceled"];

groups! {
    /// How long requests took. Written by whoever serves the device. The fields are those that
    /// libvirt's block statistics gained after the first five, in their order.
    blk 2 at 240 len 48 since 3 BlkIoTimes "io_times" {
        /// Time that completed reads took, in sum (block.N.rd.times).
        16 rd_total_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Time that completed writes took, in sum (block.N.wr.times).
        24 wr_total_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Flushes that were completed (block.N.fl.reqs).
        32 flush_req: Word, Kind::Cumulative, Unit::Events;
        /// Time that completed flushes took, in sum (block.N.fl.times).
        40 flush_total_ns: Word, Kind::Cumulative, Unit::Ns;
    }

    /// How far the device's storage is filled, and the write threshold. Written by the domain's
    /// management thread, at its own interval and when the threshold is crossed.
    blk 3 at 288 len 64 since 3 BlkExtent "extent" {
        /// Highest byte of the storage that was written (block.N.allocation).
        16 allocation_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Size of the device as the domain sees it (block.N.capacity).
        24 capacity_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Size of the storage as the host sees it (block.N.physical).
        32 physical_bytes: Word, Kind::Instant, Unit::Bytes;
        /// A write past this byte is an event; 0 while none is armed (block.N.threshold).
        40 threshold_bytes: Word, Kind::Instant, Unit::Bytes;
        /// How often a threshold was crossed; each crossing disarms it.
        48 threshold_events: Word, Kind::Cumulative, Unit::Events;
        /// By how much the write of the last crossing went past it.
        56 threshold_excess_bytes: Word, Kind::Instant, Unit::Bytes;
    }

    /// What only Xen's block backend counts. Written by whoever reads
    /// /sys/bus/xen-backend/devices/vbd-DOMID-DEVID/statistics.
    blk 4 at 352 len 48 since 3 BlkVbd "vbd" {
        /// Requests that found no room to be queued (oo_req; libvirt's errs on Xen).
        16 oo_req: Word, Kind::Cumulative, Unit::Events;
        /// Discards (ds_req).
        24 ds_req: Word, Kind::Cumulative, Unit::Events;
        /// Flushes (f_req).
        32 f_req: Word, Kind::Cumulative, Unit::Events;
        /// The device's number, for example 51712 for xvda.
        40 devid: Word, Kind::Id, Unit::None;
    }

    /// The long-running operation on the device, if there is one. Written by the domain's
    /// management thread on every event of the job, and at its own interval between them. It
    /// stays as it ended until the next one begins.
    blk 5 at 400 len 64 since 3 BlkJob "job" {
        /// 0 none, 1 pull, 2 copy, 3 commit, 4 active_commit, 5 backup, 6 other.
        16 kind: Word, Kind::State(JOB_KIND_NAMES), Unit::None;
        /// 0 none, 1 running, 2 paused, 3 ready, 4 ending (canceled and not yet gone),
        /// 5 completed, 6 failed, 7 canceled.
        24 state: Word, Kind::State(JOB_STATE_NAMES), Unit::None;
        /// How far it is (cur of virDomainBlockJobInfo).
        32 cur_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Where it ends; may grow beyond the device's size (end of virDomainBlockJobInfo).
        40 end_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Its limit in bytes per second; 0 is none.
        48 limit_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Jobs of this device that have ended, in whatever way.
        56 ended: Word, Kind::Cumulative, Unit::Events;
    }
}

/// This revision's number.
pub const REVISION: u32 = 3;
/// Groups of the blk record, in order of their bits.
pub const BLK_GROUPS: &[&GroupDesc; 6] = &[
    BlkIdentity::DESC,
    BlkIo::DESC,
    BlkIoTimes::DESC,
    BlkExtent::DESC,
    BlkVbd::DESC,
    BlkJob::DESC,
];
/// Length of a blk record as this revision builds it.
pub const BLK_SIZE: usize = 464;
/// This revision as a value.
pub const REV: &Revision = &Revision {
    number: REVISION,
    records: &[
        (RecordKind::Dom, DOM_GROUPS),
        (RecordKind::Vcpu, VCPU_GROUPS),
        (RecordKind::Blk, BLK_GROUPS),
    ],
    arch_and_schema: false,
};

const _: () = {
    assert_appended(BLK_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert!(BlkJob::DESC.end() == BLK_SIZE);
};
