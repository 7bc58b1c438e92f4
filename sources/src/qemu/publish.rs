//! Who publishes: makes a region for a VM, hands out its sinks, tells of its events.

use domstat_layout::sink::{BlkSink, DomSink, NetSink, VcpuSink};
use serde::Serialize;

use crate::{Description, SourceError};

/// The sinks of one region, and what makes it visible.
pub struct Sinks<P: Publisher> {
    /// Takes the dom record.
    pub dom: P::Dom,
    /// Takes the vCPU records, in order.
    pub vcpus: Vec<P::Vcpu>,
    /// Takes the block device records, in order.
    pub blks: Vec<P::Blk>,
    /// Takes the network interface records, in order.
    pub nets: Vec<P::Net>,
    /// To be published once the sinks have been written.
    pub unpublished: P::Unpublished,
}

/// Makes VMs visible.
pub trait Publisher: Send + Sized + 'static {
    /// The sink of a dom record.
    type Dom: DomSink + 'static;
    /// The sink of a vCPU record.
    type Vcpu: VcpuSink + 'static;
    /// The sink of a block device record.
    type Blk: BlkSink + 'static;
    /// The sink of a network interface record.
    type Net: NetSink + 'static;
    /// A region that nobody sees yet.
    type Unpublished: Send;
    /// A region that is visible; dropping it retires it.
    type Region: Send;

    /// Makes a region that nobody sees yet.
    ///
    /// # Errors
    /// [`SourceError`] if the host has no room for it.
    fn create(&mut self, description: &Description) -> Result<Sinks<Self>, SourceError>;

    /// Makes it visible under `name`.
    ///
    /// # Errors
    /// [`SourceError`], for example if the name is taken.
    fn publish(
        &mut self,
        name: &str,
        unpublished: Self::Unpublished,
    ) -> Result<Self::Region, SourceError>;

    /// Wakes who waits for a discrete event of the domain. Called once for each, after what it
    /// changed is written.
    fn notify(&self, region: &Self::Region);

    /// Tells who has subscribed.
    fn event(&mut self, domain: &str, event: &Event);

    /// Says something to the operator.
    fn note(&mut self, text: &str);
}

/// A discrete event of a domain. Each is told once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The domain is published.
    Published,
    /// A write went past an armed threshold, which is disarmed by that.
    WriteThreshold {
        /// The disk, or a backing image of one (`vda[1]`).
        disk: String,
        /// QEMU's node.
        node: String,
        /// The threshold that was exceeded, in bytes.
        threshold_bytes: u64,
        /// By how much the write went past it, in bytes; absent if QEMU's event was missed.
        excess_bytes: Option<u64>,
        /// Whether it was concluded from the level, QEMU's event having been missed.
        reconciled: bool,
    },
    /// A copy is in sync and can be completed.
    JobReady {
        /// The disk, if it is known.
        disk: Option<String>,
        /// QEMU's id of the job.
        job: String,
        /// What it does: `mirror`, `commit`, ...
        kind: String,
    },
    /// A block job has ended.
    JobEnded {
        /// The disk, if it is known.
        disk: Option<String>,
        /// QEMU's id of the job.
        job: String,
        /// What it did.
        kind: String,
        /// `canceled`, `completed`, `failed`, `unknown` or `domain_gone`.
        outcome: String,
        /// Why it failed.
        error: Option<String>,
        /// Whether it was concluded from the job's absence.
        reconciled: bool,
    },
    /// The domain's state changed.
    State {
        /// QEMU's word for it: `running`, `paused`, `io-error`, ...
        state: String,
    },
    /// The connection to QEMU was lost; the domain may live on.
    Disconnected,
    /// QEMU answers again.
    Connected,
    /// The domain has ended, or is no longer observed.
    Gone,
}
