//! Sinks: the contract between a source of numbers and a producer's writers. Sinks take groups by
//! type, never by offset, and are not part of the ABI.

use crate::descriptor::{
    BlkGroup, BlkHistGroup, BlkQueueGroup, DomGroup, NetGroup, VcpuGroup, VcpuHistGroup,
};
use crate::histogram::HistogramGroup;
use crate::value::{Ns, Word};

/// Takes the groups of one domain's dom record.
pub trait DomSink: Send {
    /// Publishes the whole group as of `now` and marks it active.
    fn write<G: DomGroup>(&mut self, group: &G, now: Ns);
    /// Marks the group as no longer produced; its last values can no longer be read.
    fn deactivate<G: DomGroup>(&mut self);
    /// Publishes the group of the domain's arch slot that was described at position `index`, a
    /// word for each of its words. Nothing is published of a sink that has no such group.
    fn write_arch(&mut self, index: usize, words: &[Word], now: Ns) {
        let _ = (index, words, now);
    }
}

/// Takes the groups of one vCPU's record. One per vCPU, so that each vCPU's own thread can hold it.
pub trait VcpuSink: Send {
    /// Publishes the whole group as of `now` and marks it active.
    fn write<G: VcpuGroup>(&mut self, group: &G, now: Ns);
    /// Marks the group as no longer produced; its last values can no longer be read.
    fn deactivate<G: VcpuGroup>(&mut self);
    /// As [`VcpuSink::write`], in this vCPU's record of distributions. Nothing is published of a
    /// sink that has none.
    fn write_hist<G: VcpuHistGroup>(&mut self, group: &G, now: Ns) {
        let _ = (group, now);
    }
    /// Adds a value to a distribution of this vCPU.
    fn record<G: VcpuHistGroup + HistogramGroup>(&mut self, value: u64, now: Ns) {
        let _ = (value, now);
    }
    /// As [`DomSink::write_arch`], in this vCPU's arch slot.
    fn write_arch(&mut self, index: usize, words: &[Word], now: Ns) {
        let _ = (index, words, now);
    }
    /// Gives the slot to something else: every group off, `generation` bumped. Counters of what
    /// follows may start from zero.
    fn renew(&mut self);
}

/// Takes the groups of one block device's record. One per slot.
pub trait BlkSink: Send {
    /// Publishes the whole group as of `now` and marks it active.
    fn write<G: BlkGroup>(&mut self, group: &G, now: Ns);
    /// Marks the group as no longer produced; its last values can no longer be read.
    fn deactivate<G: BlkGroup>(&mut self);
    /// As [`BlkSink::write`], in this device's record of distributions. Nothing is published of a
    /// sink that has none.
    fn write_hist<G: BlkHistGroup>(&mut self, group: &G, now: Ns) {
        let _ = (group, now);
    }
    /// As [`BlkSink::deactivate`], in this device's record of distributions.
    fn deactivate_hist<G: BlkHistGroup>(&mut self) {}
    /// Gives the slot to another device: every group off, `generation` bumped.
    fn renew(&mut self);
}

/// Takes the groups of one network interface's record. One per slot.
pub trait NetSink: Send {
    /// Publishes the whole group as of `now` and marks it active.
    fn write<G: NetGroup>(&mut self, group: &G, now: Ns);
    /// Marks the group as no longer produced; its last values can no longer be read.
    fn deactivate<G: NetGroup>(&mut self);
    /// Gives the slot to another interface: every group off, `generation` bumped.
    fn renew(&mut self);
}

/// Takes the groups of one writer's share of a block device. One per slot.
pub trait BlkShareSink: Send {
    /// Publishes the whole group as of `now` and marks it active.
    fn write<G: BlkQueueGroup>(&mut self, group: &G, now: Ns);
    /// Marks the group as no longer produced; its last values can no longer be read.
    fn deactivate<G: BlkQueueGroup>(&mut self);
    /// Gives the slot to another share: every group off, `generation` bumped.
    fn renew(&mut self);
}

/// A sink for devices that are not wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSink;

impl BlkSink for NoSink {
    fn write<G: BlkGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: BlkGroup>(&mut self) {}
    fn renew(&mut self) {}
}

impl NetSink for NoSink {
    fn write<G: NetGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: NetGroup>(&mut self) {}
    fn renew(&mut self) {}
}

impl BlkShareSink for NoSink {
    fn write<G: BlkQueueGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: BlkQueueGroup>(&mut self) {}
    fn renew(&mut self) {}
}
