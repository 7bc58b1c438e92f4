//! Revision 4: network interfaces, arch slots, the schema, and twins of the groups that are
//! written most.
//!
//! **Frozen.** A new field is a new group in a new module ([`crate::revision`]); no number, name or
//! meaning here changes again.

pub use crate::r3::{
    BlkExtent, BlkIdentity, BlkIo, BlkIoTimes, BlkJob, BlkVbd, Cpu, DOM_GROUPS, DOM_SIZE, Exits,
    Identity, JOB_KIND_NAMES, JOB_STATE_NAMES, Memory, RUNSTATE_NAMES, RunState, Runstate, Sched,
};

use crate::descriptor::{
    Group, GroupDesc, Kind, RecordKind, Revision, Unit, assert_appended, groups, twins,
};
use crate::value::{Name, Word};

twins! {
    /// The second copy of `runstate`.
    vcpu 3 at 224 len 64 since 4 RunstateTwin "runstate_twin" of Runstate;
    /// The second copy of `sched`.
    vcpu 4 at 288 len 48 since 4 SchedTwin "sched_twin" of Sched;
    /// The second copy of `io`.
    blk 6 at 464 len 64 since 4 BlkIoTwin "io_twin" of BlkIo;
}

groups! {
    /// Which interface the slot serves. Written by the domain's management thread when the
    /// interface is attached; constant until the slot is given to another (`generation`).
    net 0 at 32 len 144 since 4 NetIdentity "identity" {
        /// The interface's name on the host, such as `vnet0` (net.N.name).
        16 name: Name, Kind::Text, Unit::None;
    }

    /// What was received and sent, as the domain sees it. Written by whoever serves the
    /// interface.
    net 1 at 176 len 80 since 4 NetIo "io" {
        /// Bytes received (net.N.rx.bytes).
        16 rx_bytes: Word, Kind::Cumulative, Unit::Bytes;
        /// Packets received (net.N.rx.pkts).
        24 rx_packets: Word, Kind::Cumulative, Unit::Events;
        /// Errors in receiving (net.N.rx.errs).
        32 rx_errs: Word, Kind::Cumulative, Unit::Events;
        /// Packets dropped in receiving (net.N.rx.drop).
        40 rx_drop: Word, Kind::Cumulative, Unit::Events;
        /// Bytes sent (net.N.tx.bytes).
        48 tx_bytes: Word, Kind::Cumulative, Unit::Bytes;
        /// Packets sent (net.N.tx.pkts).
        56 tx_packets: Word, Kind::Cumulative, Unit::Events;
        /// Errors in sending (net.N.tx.errs).
        64 tx_errs: Word, Kind::Cumulative, Unit::Events;
        /// Packets dropped in sending (net.N.tx.drop).
        72 tx_drop: Word, Kind::Cumulative, Unit::Events;
    }
}

/// This revision's number.
pub const REVISION: u32 = 4;
/// Groups of the vcpu record, in order of their bits.
pub const VCPU_GROUPS: &[&GroupDesc; 5] =
    &[Runstate::DESC, Sched::DESC, Exits::DESC, RunstateTwin::DESC, SchedTwin::DESC];
/// Groups of the blk record, in order of their bits.
pub const BLK_GROUPS: &[&GroupDesc; 7] = &[
    BlkIdentity::DESC,
    BlkIo::DESC,
    BlkIoTimes::DESC,
    BlkExtent::DESC,
    BlkVbd::DESC,
    BlkJob::DESC,
    BlkIoTwin::DESC,
];
/// Groups of the net record, in order of their bits.
pub const NET_GROUPS: &[&GroupDesc; 2] = &[NetIdentity::DESC, NetIo::DESC];
/// Length of a vcpu record as this revision builds it.
pub const VCPU_SIZE: usize = 336;
/// Length of a blk record as this revision builds it.
pub const BLK_SIZE: usize = 528;
/// Length of a net record as this revision builds it.
pub const NET_SIZE: usize = 256;
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
    ],
    arch_and_schema: true,
};

const _: () = {
    assert_appended(VCPU_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert_appended(BLK_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert_appended(NET_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert!(SchedTwin::DESC.end() == VCPU_SIZE);
    assert!(BlkIoTwin::DESC.end() == BLK_SIZE);
    assert!(NetIo::DESC.end() == NET_SIZE);
};
