//! Revision 2: CPU time of the domain, scheduling and exits of each vCPU, block devices.
//!
//! **Frozen.** A new field is a new group in a new module ([`crate::revision`]); no number, name or
//! meaning here changes again.

pub use crate::r1::{Identity, Memory, RUNSTATE_NAMES, RunState, Runstate};

use crate::descriptor::{
    Group, GroupDesc, Kind, RecordKind, Revision, Unit, assert_appended, groups,
};
use crate::value::{Name, Word};

groups! {
    /// CPU time that the domain costs the host. Written by the domain's management thread, at its
    /// own interval. The names are those of libvirt's cpu statistics.
    dom 2 at 400 len 48 since 2 Cpu "cpu" {
        /// CPU time of all threads of the domain (cpu.time).
        16 time_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Part of it spent in user space (cpu.user).
        24 user_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Part of it spent in the kernel (cpu.system).
        32 system_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Part of it spent running vCPUs (guest_time of proc(5)).
        40 vcpus_ns: Word, Kind::Cumulative, Unit::Ns;
    }

    /// How the host's scheduler treated the vCPU's thread. Written by whoever reads the
    /// scheduler's books. The names are those of libvirt's vcpu statistics; the numbers are those
    /// of /proc/PID/task/TID/schedstat.
    vcpu 1 at 96 len 48 since 2 Sched "sched" {
        /// Time on a physical CPU (vcpu.N.time).
        16 time_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Time asleep or waiting for input and output (vcpu.N.wait).
        24 wait_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Time in the run queue without a CPU: steal (vcpu.N.delay).
        32 delay_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Times that it was given a CPU.
        40 timeslices: Word, Kind::Cumulative, Unit::Events;
    }

    /// Why the vCPU left the domain's code. Written by the thread that runs the vCPU. The names
    /// are those of KVM's binary statistics.
    vcpu 2 at 144 len 80 since 2 Exits "exits" {
        /// Exits of any kind (exits).
        16 exits: Word, Kind::Cumulative, Unit::Events;
        /// Exits for port input and output (io_exits).
        24 io_exits: Word, Kind::Cumulative, Unit::Events;
        /// Exits for device memory (mmio_exits).
        32 mmio_exits: Word, Kind::Cumulative, Unit::Events;
        /// Exits because it halted (halt_exits).
        40 halt_exits: Word, Kind::Cumulative, Unit::Events;
        /// Exits for interrupts of the host (irq_exits).
        48 irq_exits: Word, Kind::Cumulative, Unit::Events;
        /// Exits because its thread had a signal (signal_exits).
        56 signal_exits: Word, Kind::Cumulative, Unit::Events;
        /// Hypercalls (hypercalls).
        64 hypercalls: Word, Kind::Cumulative, Unit::Events;
        /// Instructions that were emulated (insn_emulation).
        72 insn_emulation: Word, Kind::Cumulative, Unit::Events;
    }

    /// Which device the slot serves. Written by the domain's management thread when the device is
    /// attached; constant until the slot is given to another (`generation`).
    blk 0 at 32 len 144 since 2 BlkIdentity "identity" {
        /// The device's name in the domain, such as `vda` (block.N.name).
        16 name: Name, Kind::Text, Unit::None;
    }

    /// What was read and written. Written by whoever serves the device. The first five fields
    /// are those of libvirt's virDomainBlockStatsStruct as it began, in its order.
    blk 1 at 176 len 64 since 2 BlkIo "io" {
        /// Reads that were completed (block.N.rd.reqs; rd_req of Linux' xen-blkback).
        16 rd_req: Word, Kind::Cumulative, Unit::Events;
        /// Bytes that were read (block.N.rd.bytes).
        24 rd_bytes: Word, Kind::Cumulative, Unit::Bytes;
        /// Writes that were completed (block.N.wr.reqs; wr_req of xen-blkback).
        32 wr_req: Word, Kind::Cumulative, Unit::Events;
        /// Bytes that were written (block.N.wr.bytes).
        40 wr_bytes: Word, Kind::Cumulative, Unit::Bytes;
        /// Requests that failed (block.N.errors).
        48 errs: Word, Kind::Cumulative, Unit::Events;
        /// Requests that are being served now.
        56 in_flight: Word, Kind::Instant, Unit::None;
    }
}

/// This revision's number.
pub const REVISION: u32 = 2;
/// Groups of the dom record, in order of their bits.
pub const DOM_GROUPS: &[&GroupDesc; 3] = &[Identity::DESC, Memory::DESC, Cpu::DESC];
/// Groups of the vcpu record, in order of their bits.
pub const VCPU_GROUPS: &[&GroupDesc; 3] = &[Runstate::DESC, Sched::DESC, Exits::DESC];
/// Groups of the blk record, in order of their bits.
pub const BLK_GROUPS: &[&GroupDesc; 2] = &[BlkIdentity::DESC, BlkIo::DESC];
/// Length of the dom record as this revision builds it.
pub const DOM_SIZE: usize = 448;
/// Length of a vcpu record as this revision builds it.
pub const VCPU_SIZE: usize = 224;
/// Length of a blk record as this revision builds it.
pub const BLK_SIZE: usize = 240;
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
    assert_appended(DOM_GROUPS, crate::record::DOM_HEADER_LEN);
    assert_appended(VCPU_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert_appended(BLK_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert!(Cpu::DESC.end() == DOM_SIZE);
    assert!(Exits::DESC.end() == VCPU_SIZE);
    assert!(BlkIo::DESC.end() == BLK_SIZE);
};
