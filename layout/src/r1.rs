//! Revision 1: identity and memory of the domain, runstate of each vCPU.
//!
//! **Frozen.** A new field is a new group in a new module ([`crate::revision`]); no number, name or
//! meaning here changes again.

use crate::descriptor::{
    Group, GroupDesc, Kind, RecordKind, Revision, Unit, assert_appended, groups,
};
use crate::value::{Name, Uuid, Word};

/// Names of [`Runstate::state`]'s values.
pub const RUNSTATE_NAMES: &[&str] = &["running", "runnable", "blocked", "offline"];

groups! {
    /// Who the domain is. Written once by the creator of the region, before it is published;
    /// constant within an incarnation.
    dom 0 at 128 len 176 since 1 Identity "identity" {
        /// The host's number for the domain: Xen's domid, a process id, or the VMM's own number.
        16 domid: Word, Kind::Id, Unit::None;
        /// The domain's UUID, in textual byte order.
        24 uuid: Uuid, Kind::Id, Unit::None;
        /// The domain's name, UTF-8.
        40 name: Name, Kind::Text, Unit::None;
        /// When the domain was created, on the region's clock; no vCPU began before it.
        168 created_ns: Word, Kind::Id, Unit::Ns;
    }

    /// The domain's memory as the host sees it. Written by the domain's management thread, at its
    /// own interval. The names are those of libvirt's balloon statistics, in bytes.
    dom 1 at 304 len 96 since 1 Memory "memory" {
        /// Memory the domain has now (balloon.current).
        16 current_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Memory the domain may have (balloon.maximum).
        24 maximum_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Resident host memory of the process that runs the domain (balloon.rss).
        32 rss_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Memory the domain leaves unused (balloon.unused).
        40 unused_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Memory the domain's kernel could use (balloon.available).
        48 available_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Memory that can be reclaimed without swapping (balloon.usable).
        56 usable_bytes: Word, Kind::Instant, Unit::Bytes;
        /// Swapped in (balloon.swap_in).
        64 swap_in_bytes: Word, Kind::Cumulative, Unit::Bytes;
        /// Swapped out (balloon.swap_out).
        72 swap_out_bytes: Word, Kind::Cumulative, Unit::Bytes;
        /// Page faults that needed a disk (balloon.major_fault).
        80 major_faults: Word, Kind::Cumulative, Unit::Events;
        /// Page faults that did not (balloon.minor_fault).
        88 minor_faults: Word, Kind::Cumulative, Unit::Events;
    }

    /// What the vCPU is doing and where its time went, as Xen's VCPUOP_get_runstate_info reports
    /// it. Written by whoever schedules or runs the vCPU, when the state changes. The four times
    /// are as of `updated_ns`; from then on time passes in `state`.
    vcpu 0 at 32 len 64 since 1 Runstate "runstate" {
        /// 0 running, 1 runnable, 2 blocked, 3 offline (Xen's RUNSTATE_* values).
        16 state: Word, Kind::State(RUNSTATE_NAMES), Unit::None;
        /// When the vCPU entered `state`, on the region's clock.
        24 state_entry_ns: Word, Kind::Instant, Unit::Ns;
        /// Time on a physical CPU (libvirt's vcpu.N.time).
        32 running_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Time it wanted a physical CPU and had none: steal (libvirt's vcpu.N.delay).
        40 runnable_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Time it waited for an event.
        48 blocked_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Time it was unplugged, paused or not yet started.
        56 offline_ns: Word, Kind::Cumulative, Unit::Ns;
    }
}

/// This revision's number.
pub const REVISION: u32 = 1;
/// Groups of the dom record, in order of their bits.
pub const DOM_GROUPS: &[&GroupDesc; 2] = &[Identity::DESC, Memory::DESC];
/// Groups of the vcpu record, in order of their bits.
pub const VCPU_GROUPS: &[&GroupDesc; 1] = &[Runstate::DESC];
/// Length of the dom record as this revision builds it.
pub const DOM_SIZE: usize = 400;
/// Length of a vcpu record as this revision builds it.
pub const VCPU_SIZE: usize = 96;
/// This revision as a value.
pub const REV: &Revision = &Revision {
    number: REVISION,
    records: &[(RecordKind::Dom, DOM_GROUPS), (RecordKind::Vcpu, VCPU_GROUPS)],
    arch_and_schema: false,
};

const _: () = {
    assert_appended(DOM_GROUPS, crate::record::DOM_HEADER_LEN);
    assert_appended(VCPU_GROUPS, crate::record::RECORD_HEADER_LEN);
    assert!(Memory::DESC.end() == DOM_SIZE);
    assert!(Runstate::DESC.end() == VCPU_SIZE);
};

/// A vCPU's scheduler state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunState {
    /// On a physical CPU.
    Running = 0,
    /// Wants a physical CPU and has none.
    Runnable = 1,
    /// Waits for an event.
    Blocked = 2,
    /// Unplugged, paused or not yet started.
    Offline = 3,
}

impl RunState {
    /// The state with this number in Xen's RUNSTATE_* and in [`Runstate::state`].
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Running),
            1 => Some(Self::Runnable),
            2 => Some(Self::Blocked),
            3 => Some(Self::Offline),
            _ => None,
        }
    }

    /// `running`, `runnable`, `blocked` or `offline`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Runnable => "runnable",
            Self::Blocked => "blocked",
            Self::Offline => "offline",
        }
    }
}

impl From<RunState> for Word {
    fn from(state: RunState) -> Self {
        Self::new(state as u64)
    }
}

impl Runstate {
    /// The state, if one is produced and it is one of the four.
    #[must_use]
    pub fn run_state(&self) -> Option<RunState> {
        self.state.value().and_then(RunState::from_number)
    }

    /// The time spent in `state`.
    #[must_use]
    pub const fn time_in(&self, state: RunState) -> Word {
        match state {
            RunState::Running => self.running_ns,
            RunState::Runnable => self.runnable_ns,
            RunState::Blocked => self.blocked_ns,
            RunState::Offline => self.offline_ns,
        }
    }

    /// The time spent in `state`, to change it.
    pub const fn time_in_mut(&mut self, state: RunState) -> &mut Word {
        match state {
            RunState::Running => &mut self.running_ns,
            RunState::Runnable => &mut self.runnable_ns,
            RunState::Blocked => &mut self.blocked_ns,
            RunState::Offline => &mut self.offline_ns,
        }
    }

    /// Sum of the four times: how long the vCPU exists. `None` unless all four are numbers.
    #[must_use]
    pub fn total_ns(&self) -> Option<u64> {
        [self.running_ns, self.runnable_ns, self.blocked_ns, self.offline_ns]
            .into_iter()
            .try_fold(0u64, |sum, time| sum.checked_add(time.value()?))
    }
}
