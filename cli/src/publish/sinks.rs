//! Sinks of records that come in pairs: a vCPU or a block device, and its distributions.

use domstat_layout::sink::{BlkSink, VcpuSink};
use domstat_layout::{BlkGroup, BlkHistGroup, HistogramGroup, Ns, VcpuGroup, VcpuHistGroup, Word};
use domstat_producer::{BlkHistWriter, BlkWriter, VcpuHistWriter};

/// Each record with its distributions, if the region has such.
fn zip<W, H>(records: Vec<W>, hists: Vec<H>) -> impl Iterator<Item = (W, Option<H>)> {
    let hists = hists.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
    records.into_iter().zip(hists)
}

/// A vCPU's record and its distributions.
pub(crate) struct VcpuRecords<W> {
    vcpu: W,
    hist: Option<VcpuHistWriter>,
}

impl<W> VcpuRecords<W> {
    pub(super) fn zip(vcpus: Vec<W>, hists: Vec<VcpuHistWriter>) -> Vec<Self> {
        zip(vcpus, hists).map(|(vcpu, hist)| Self { vcpu, hist }).collect()
    }
}

impl<W: VcpuSink> VcpuSink for VcpuRecords<W> {
    fn write<G: VcpuGroup>(&mut self, group: &G, now: Ns) {
        self.vcpu.write(group, now);
    }
    fn deactivate<G: VcpuGroup>(&mut self) {
        self.vcpu.deactivate::<G>();
    }
    fn write_hist<G: VcpuHistGroup>(&mut self, group: &G, now: Ns) {
        if let Some(hist) = &mut self.hist {
            hist.write(group, now);
        }
    }
    fn record<G: VcpuHistGroup + HistogramGroup>(&mut self, value: u64, now: Ns) {
        if let Some(hist) = &mut self.hist {
            hist.record::<G>(value, now);
        }
    }
    fn write_arch(&mut self, index: usize, words: &[Word], now: Ns) {
        self.vcpu.write_arch(index, words, now);
    }
    fn renew(&mut self) {
        self.vcpu.renew();
        if let Some(hist) = &mut self.hist {
            hist.renew();
        }
    }
}

/// A block device's record and its distributions.
pub(crate) struct BlkRecords {
    blk: BlkWriter,
    hist: Option<BlkHistWriter>,
}

impl BlkRecords {
    pub(super) fn zip(blks: Vec<BlkWriter>, hists: Vec<BlkHistWriter>) -> Vec<Self> {
        zip(blks, hists).map(|(blk, hist)| Self { blk, hist }).collect()
    }
}

impl BlkSink for BlkRecords {
    fn write<G: BlkGroup>(&mut self, group: &G, now: Ns) {
        self.blk.write(group, now);
    }
    fn deactivate<G: BlkGroup>(&mut self) {
        self.blk.deactivate::<G>();
    }
    fn write_hist<G: BlkHistGroup>(&mut self, group: &G, now: Ns) {
        if let Some(hist) = &mut self.hist {
            hist.write(group, now);
        }
    }
    fn deactivate_hist<G: BlkHistGroup>(&mut self) {
        if let Some(hist) = &mut self.hist {
            hist.deactivate::<G>();
        }
    }
    fn renew(&mut self) {
        self.blk.renew();
        if let Some(hist) = &mut self.hist {
            hist.renew();
        }
    }
}
