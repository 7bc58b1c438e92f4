//! Publisher of the domains that an [`Observer`](super::Observer) finds.

use std::path::Path;

use super::{ArmedThresholds, Description, Event, SourceError};
use domstat_layout::sink::{BlkSink, DomSink, NetSink, VcpuSink};

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

    /// What the daemon before had armed in the domain that is reached at `address`; nothing by default.
    fn recall(&mut self, address: &Path) -> ArmedThresholds {
        let _ = address;
        ArmedThresholds::default()
    }

    /// Keeps what is armed in the domain that is reached at `address` for the next daemon. Called
    /// before a request to arm is answered, and after an event of a threshold.
    fn remember(&mut self, address: &Path, armed: &ArmedThresholds) {
        let _ = (address, armed);
    }

    /// Says something to the operator.
    fn note(&mut self, text: &str);
}
