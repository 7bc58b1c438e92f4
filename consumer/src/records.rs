//! The records of an attached region.

use domstat_layout::{BlkGroup, DomGroup, Field, NetGroup, ReadMem, RecordKind, Stat, VcpuGroup};

use crate::read::{Patience, Reading, Record, Sample};
use crate::{Region, WriterStalled};

/// The dom record of an attached region.
#[derive(Clone, Copy)]
pub struct Dom<'a> {
    record: Record<'a>,
    patience: Patience,
}

impl<'a> Dom<'a> {
    pub(crate) const fn new(mem: ReadMem<'a>, patience: Patience) -> Self {
        Self { record: Record { mem, index: None }, patience }
    }

    /// Reads a whole group, as of one write.
    ///
    /// # Errors
    /// [`WriterStalled`] when patience is at its end.
    #[inline]
    pub fn read<G: DomGroup>(&self) -> Result<Reading<Sample<G>>, WriterStalled> {
        self.record.read(self.patience)
    }

    /// Reads one field.
    ///
    /// # Errors
    /// [`WriterStalled`] when patience is at its end.
    #[inline]
    pub fn stat<G: DomGroup>(&self, field: Field<G>) -> Result<Stat, WriterStalled> {
        self.record.stat(field, self.patience)
    }
}

/// Declares the reader of one record of an array.
macro_rules! array_record {
    ($(#[doc = $doc:literal])+ $name:ident, $group:ident, $one:ident, $all:ident, $kind:expr) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy)]
        pub struct $name<'a> {
            record: Record<'a>,
            index: u32,
            patience: Patience,
        }

        impl<'a> $name<'a> {
            const fn new(mem: ReadMem<'a>, index: u32, patience: Patience) -> Self {
                Self { record: Record { mem, index: Some(index) }, index, patience }
            }

            /// The record's position in its array.
            #[must_use]
            pub const fn index(&self) -> u32 {
                self.index
            }

            /// Reads a whole group, as of one write.
            ///
            /// # Errors
            /// [`WriterStalled`] when patience is at its end.
            #[inline]
            pub fn read<G: $group>(&self) -> Result<Reading<Sample<G>>, WriterStalled> {
                self.record.read(self.patience)
            }

            /// Reads one field.
            ///
            /// # Errors
            /// [`WriterStalled`] when patience is at its end.
            #[inline]
            pub fn stat<G: $group>(&self, field: Field<G>) -> Result<Stat, WriterStalled> {
                self.record.stat(field, self.patience)
            }
        }

        impl Region {
            /// The record at `index` of its array; `None` past the end.
            #[inline]
            #[must_use]
            pub fn $one(&self, index: u32) -> Option<$name<'_>> {
                let array = self.geometry().array($kind);
                let mem = self.sub(array.offset(index)?, array.size);
                Some($name::new(mem, index, self.patience()))
            }

            /// Every record of the array, in order.
            pub fn $all(&self) -> impl ExactSizeIterator<Item = $name<'_>> {
                let array = self.geometry().array($kind);
                let iter = 0..array.nr;
                iter.map(move |index| {
                    let mem = self.sub(array.offset(index).unwrap_or(0), array.size);
                    $name::new(mem, index, self.patience())
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
