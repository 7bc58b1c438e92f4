//! The records of an attached region.

use domstat_layout::latest::Labels;
use domstat_layout::{
    BlkGroup, BlkHistGroup, BlkQueueGroup, DomGroup, Field, NetGroup, NetQueueGroup, ReadMem,
    RecordKind, Stat, VcpuGroup, VcpuHistGroup,
};

use super::{Reading, Record, Sample};
use crate::error::ReadError;
use crate::region::Region;

/// The dom record of an attached region.
#[derive(Clone, Copy)]
pub struct Dom<'a> {
    record: Record<'a>,
}

impl<'a> Dom<'a> {
    const fn new(region: &'a Region, mem: ReadMem<'a>) -> Self {
        Self { record: Record { region, mem, index: None } }
    }

    /// Reads a whole group, as of one write.
    ///
    /// # Errors
    /// [`ReadError`] when patience is at its end, or the memory went away.
    #[inline]
    pub fn read<G: DomGroup>(&self) -> Result<Reading<Sample<G>>, ReadError> {
        self.record.read()
    }

    /// Reads one field.
    ///
    /// # Errors
    /// [`ReadError`] when patience is at its end, or the memory went away.
    #[inline]
    pub fn stat<G: DomGroup>(&self, field: Field<G>) -> Result<Stat, ReadError> {
        self.record.stat(field)
    }
}

impl Region {
    /// The dom record.
    #[must_use]
    pub fn dom(&self) -> Dom<'_> {
        // The geometry proves that the record is inside; an empty one would have no groups.
        Dom::new(self, self.sub(0, self.geometry().dom_size()))
    }
}

/// Declares the reader of one record of an array.
macro_rules! array_record {
    ($(#[doc = $doc:literal])+ $name:ident, $group:ident, $one:ident, $all:ident, $kind:expr) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy)]
        pub struct $name<'a> {
            pub(super) record: Record<'a>,
            index: u32,
        }

        impl<'a> $name<'a> {
            const fn new(region: &'a Region, mem: ReadMem<'a>, index: u32) -> Self {
                Self { record: Record { region, mem, index: Some(index) }, index }
            }

            /// The record's position in its array.
            #[must_use]
            pub const fn index(&self) -> u32 {
                self.index
            }

            /// Reads a whole group, as of one write.
            ///
            /// # Errors
            /// [`ReadError`] when patience is at its end, or the memory went away.
            #[inline]
            pub fn read<G: $group>(&self) -> Result<Reading<Sample<G>>, ReadError> {
                self.record.read()
            }

            /// Reads one field.
            ///
            /// # Errors
            /// [`ReadError`] when patience is at its end, or the memory went away.
            #[inline]
            pub fn stat<G: $group>(&self, field: Field<G>) -> Result<Stat, ReadError> {
                self.record.stat(field)
            }
        }

        impl Region {
            /// The record at `index` of its array; `None` past the end.
            #[inline]
            #[must_use]
            pub fn $one(&self, index: u32) -> Option<$name<'_>> {
                let array = self.geometry().array($kind);
                let mem = self.sub(array.offset(index)?, array.size);
                Some($name::new(self, mem, index))
            }

            /// Every record of the array, in order.
            pub fn $all(&self) -> impl ExactSizeIterator<Item = $name<'_>> {
                let array = self.geometry().array($kind);
                let iter = 0..array.nr;
                iter.map(move |index| {
                    let mem = self.sub(array.offset(index).unwrap_or(0), array.size);
                    $name::new(self, mem, index)
                })
            }
        }
    };
}

array_record! {
    /// One vCPU's record of an attached region.
    Vcpu, VcpuGroup, vcpu, vcpus, RecordKind::Vcpu
}
array_record! {
    /// One block device's record of an attached region.
    Blk, BlkGroup, blk, blks, RecordKind::Blk
}
array_record! {
    /// One network interface's record of an attached region.
    Net, NetGroup, net, nets, RecordKind::Net
}
array_record! {
    /// One vCPU's distributions, of an attached region.
    VcpuHist, VcpuHistGroup, vcpu_hist, vcpu_hists, RecordKind::VcpuHist
}
array_record! {
    /// One block device's distributions, of an attached region.
    BlkHist, BlkHistGroup, blk_hist, blk_hists, RecordKind::BlkHist
}
array_record! {
    /// One writer's share of a block device, of an attached region.
    BlkQueue, BlkQueueGroup, blk_queue, blk_queues, RecordKind::BlkQueue
}
array_record! {
    /// One writer's share of a network interface, of an attached region.
    NetQueue, NetQueueGroup, net_queue, net_queues, RecordKind::NetQueue
}

impl Region {
    /// What the operator calls the domain by; [`Reading::Unknown`] if the region has no labels.
    ///
    /// # Errors
    /// [`ReadError`] when patience is at its end, or the memory went away.
    pub fn labels(&self) -> Result<Reading<Sample<Labels>>, ReadError> {
        match self.record(RecordKind::Labels, 0) {
            Some(record) => record.read(),
            None => Ok(Reading::Unknown),
        }
    }
}
