//! Contracts between the sources of numbers and their publishers.
//!
//! A [`Source`] is one domain that is there when it is looked at and has a fixed shape. An
//! [`Observer`] is one that comes and goes, with devices that come and go, events and commands; it
//! creates its regions through a [`Publisher`]. [`crate::conformance`] checks both.

use std::time::Duration;

use domstat_layout::schema::FieldShape;
use domstat_layout::sink::{BlkShareSink, BlkSink, DomSink, NetSink, VcpuSink};
use domstat_layout::{Clock, Ns};

mod armed;
mod command;
mod event;
mod fleet;
mod observer;
mod publisher;

pub use armed::{Armed, ArmedThresholds};
pub(crate) use command::check_flags;
pub use command::{
    Command, ControlError, DiskInfo, ErrorCode, JobAborted, JobFlags, JobStatus, Reply, SetRequest,
    ThresholdFlags, ThresholdSet,
};
pub use event::{Event, JobOutcome, LossReason};
pub use fleet::Fleet;
pub use observer::{Observation, Observer, ObserverStatus};
pub use publisher::{Publisher, Sinks};

/// A domain, as its source describes it before anything is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Which source this is: `kvm`, `libvirt`, `process`, `qemu`, `xen`.
    pub source: &'static str,
    /// The host's number for the domain.
    pub domid: Option<u64>,
    /// The domain's UUID, in textual byte order.
    pub uuid: Option<[u8; 16]>,
    /// The domain's name; not empty, no `/`.
    pub name: String,
    /// When the domain was created, on `clock`.
    pub created: Option<Ns>,
    /// vCPU slots: the most vCPUs the domain will have at one time.
    pub nr_vcpus: u32,
    /// Slots for block devices: the most that the domain will have at one time.
    pub nr_blks: u32,
    /// Slots for network interfaces.
    pub nr_nets: u32,
    /// What every point in time counts.
    pub clock: Clock,
    /// Groups of the domain that only this source knows, in the order of
    /// [`DomSink::write_arch`]'s `index`.
    pub arch_dom: Vec<ArchGroup>,
    /// Groups of each vCPU that only this source knows, in the order of
    /// [`VcpuSink::write_arch`]'s `index`.
    pub arch_vcpu: Vec<ArchGroup>,
    /// The kinds of records that a region need not have.
    pub optional: Optional,
    /// What the host's management calls the domain by, the most important first: keys of a-z, 0-9,
    /// `_` and `.`. What does not fit into a region is left out.
    pub labels: Vec<(String, String)>,
}

/// Kinds of records that a region need not have; none of them by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Optional {
    /// Distributions of vCPUs.
    pub vcpu_hist: bool,
    /// Distributions of block devices.
    pub blk_hist: bool,
    /// Shares of block devices: how many queues the devices have in all.
    pub nr_blk_shares: u32,
}

/// A group that no table knows: it is described where the source learns of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchGroup {
    /// Its name.
    pub name: String,
    /// Its fields, in order.
    pub fields: Vec<ArchField>,
}

/// A field of such a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchField {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub shape: FieldShape,
}

/// A domain whose statistics can be published.
///
/// # Contract
///
/// 1. [`describe`](Source::describe) has no effect and always says the same.
/// 2. [`start`](Source::start) is given one dom sink and exactly `nr_vcpus` vCPU sinks, in order.
///    When it returns, every vCPU that exists has its runstate written, and `memory` is written if
///    the source produces it at all: what is published next is valid from the first look on.
/// 3. The identity group is the publisher's, who writes it from the description.
/// 4. Every `now` is read from `clock`; for one group it never decreases.
/// 5. Cumulative fields never decrease, except after [`VcpuSink::renew`].
/// 6. The four runstate times of one write sum to the time from the vCPU's beginning to its `now`.
///    The beginning is the same for every write until `renew`, and not before `created`. A time
///    that the source cannot know is left out of every write.
/// 7. What the source cannot know is `Word::NOT_PRODUCED`, never 0. A group without any field that
///    it knows is not written, except the runstate of a vCPU, which says that the vCPU exists.
/// 8. A vCPU that was removed has its runstate deactivated. Before its slot serves another vCPU,
///    `renew` is called.
/// 9. [`Running::tick`] is called about every [`Running::interval`]; calls that come late or in
///    quick succession are allowed and change no rule. It does not wait for the domain.
/// 10. After `tick` has returned anything but [`Progress::Continue`], after it has failed for good,
///     and after [`Running::stop`] has returned, nothing is written any more and no thread of the
///     source is left. A failure that is transient ([`SourceError::is_transient`]) leaves what is
///     published as it is; the next tick tries again.
pub trait Source {
    /// What the domain is.
    fn describe(&self) -> Description;

    /// Starts to write.
    ///
    /// # Errors
    /// [`SourceError`] if the domain cannot be observed; nothing is left running.
    fn start<D, V>(self, dom: D, vcpus: Vec<V>) -> Result<Box<dyn Running>, SourceError>
    where
        D: DomSink + 'static,
        V: VcpuSink + 'static;

    /// Starts to write, devices too: exactly `nr_blks`, `nr_nets` and
    /// `optional.nr_blk_shares` sinks, in order. A source that
    /// knows devices implements this one; the rules for vCPU slots hold for device slots, but that
    /// every group of a device that was removed is deactivated.
    ///
    /// # Errors
    /// As for [`start`](Source::start).
    fn start_with_devices<D, V, B, N, Q>(
        self,
        dom: D,
        vcpus: Vec<V>,
        devices: Devices<B, N, Q>,
    ) -> Result<Box<dyn Running>, SourceError>
    where
        Self: Sized,
        D: DomSink + 'static,
        V: VcpuSink + 'static,
        B: BlkSink + 'static,
        N: NetSink + 'static,
        Q: BlkShareSink + 'static,
    {
        drop(devices);
        self.start(dom, vcpus)
    }
}

/// Sinks for the devices of a domain.
#[derive(Debug)]
pub struct Devices<B, N, Q> {
    /// Of block devices, in the order of their slots.
    pub blks: Vec<B>,
    /// Of network interfaces, in the order of their slots.
    pub nets: Vec<N>,
    /// Of shares of block devices.
    pub shares: Vec<Q>,
}

impl<B, N, Q> Default for Devices<B, N, Q> {
    /// Without sinks: devices are not wanted.
    fn default() -> Self {
        Self { blks: Vec::new(), nets: Vec::new(), shares: Vec::new() }
    }
}

/// A source that has been started. Dropping it stops it.
pub trait Running: Send {
    /// How often [`tick`](Running::tick) wants to be called.
    fn interval(&self) -> Duration;

    /// Brings up to date what is not written by threads of the source itself.
    ///
    /// # Errors
    /// [`SourceError`] if the domain can no longer be observed.
    fn tick(&mut self) -> Result<Progress, SourceError>;

    /// Stops writing and waits for the source's threads.
    fn stop(self: Box<Self>);
}

/// How the domain stands after a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is still there.
    Continue,
    /// It has ended.
    Ended,
    /// It is still there, with more devices than there are slots: a new source of it describes
    /// itself with enough.
    Outgrown,
    /// It is still there, under another name: a new source of it describes itself with that.
    Renamed,
}

/// Why a domain cannot be observed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no such process.
    #[error("there is no process {pid}")]
    NoSuchProcess {
        /// The process id asked for.
        pid: i32,
    },
    /// There is no such domain, or it is being built or taken down.
    #[error("there is no domain {domid}: `xl list` shows which there are")]
    NoSuchDomain {
        /// The number asked for.
        domid: u16,
    },
    /// The host does not let us look.
    #[error("not permitted to {action}: {hint}")]
    NotPermitted {
        /// What was tried.
        action: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The host lacks something.
    #[error("{what} is not available here: {hint}")]
    Unavailable {
        /// What is missing.
        what: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A parameter is out of its range.
    #[error("{parameter} is {found}, expected {expected}")]
    BadParameter {
        /// Which one.
        parameter: &'static str,
        /// What was given.
        found: String,
        /// What would have been right.
        expected: String,
    },
    /// The host failed in some other way.
    #[error("cannot {action}")]
    Os {
        /// What was tried.
        action: String,
        /// What the host said.
        #[source]
        source: std::io::Error,
    },
}

impl SourceError {
    /// Whether the host may be able to do it at another time: it was out of descriptors or memory,
    /// or was interrupted. Such an error says nothing about the domain.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let Self::Os { source, .. } = self else { return false };
        matches!(
            source.raw_os_error(),
            Some(
                libc::EMFILE
                    | libc::ENFILE
                    | libc::ENOMEM
                    | libc::ENOBUFS
                    | libc::EINTR
                    | libc::EAGAIN
            )
        )
    }

    /// The error and every cause of it, in one line.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let mut line = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            line.push_str(": ");
            line.push_str(&cause.to_string());
            next = cause.source();
        }
        line
    }
}
