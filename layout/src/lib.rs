//! # The domain-stats shared-memory ABI
//!
//! This crate *is* the specification: what a producer writes, what a consumer may rely on, and
//! the code that both sides share. It does no I/O, allocates nothing and needs no std.
//!
//! The design is Andrew Cooper's (xen-devel, 23 February 2023, "API/ABIs: Re: \[RFC PATCH v2 0/2\]
//! Add a new acquire resource to query vcpu statistics"), with what the review of that series
//! added, the self-description of KVM's binary statistics interface, and the "not produced"
//! values of libvirt's statistics structures.
//!
//! ## Region
//!
//! A region is a run of whole pages that describes **one** domain. Integers are little-endian and
//! naturally aligned; record starts are multiples of 8 and of `align`.
//!
//! ```text
//! 0                dom_size   vcpu_offs                vcpu_offs + i*vcpu_stride
//! +----------------+----------+------------------------+-----------------------+----
//! | dom record     | gap (0)  | vcpu record 0 | gap(0) | vcpu record 1 | gap(0)| ...
//! +----------------+----------+------------------------+-----------------------+----
//! | header | groups|          | header | groups|
//!
//! blk_offs                net_offs               schema_offs
//! +------------------------+----------------------+-----------+
//! | blk record 0 | gap | ..| net record 0 | gap|..| schema    |   each only if the header says so
//! +------------------------+----------------------+-----------+
//! ```
//!
//! blk and net records are made as vcpu records are, with magics of their own.
//!
//! An *arch slot* is a record, too, whose groups no table knows: `arch_dom_offs` says where the
//! domain's lies in the region, `arch_vcpu_offs` where a vCPU's lies in the stride of its record,
//! after the record. What is in them only the [`schema`] says.
//!
//! * *packed*: `vcpu_offs` and `vcpu_stride` are the sizes rounded up to `align`;
//! * *page-granular*: both are multiples of the page size, and each record may have frames of its
//!   own, which a consumer maps side by side: the dom record's with the domain's arch slot, one
//!   for each record of every array, and the schema's ([`Geometry::frames`]). A frame can be written by
//!   another process ([`frame`]).
//!
//! A consumer that follows the header cannot tell them apart. All parts but the vCPUs' arch slots
//! may stand in any order; they do not overlap.
//!
//! ## Kinds of records beyond the header
//!
//! From revision 5 on a region may have kinds of records that no header word speaks of: distributions
//! of vCPUs and block devices, shares of devices, arch slots of devices, labels. The schema's table
//! of records alone announces them, by the number of the kind, start, length, stride and count. A schema
//! may be as short as that table. The rules of the header's arrays hold for them; in addition,
//! record `i` of a kind that belongs to another ([`RecordKind::base`]) belongs to record `i` of that
//! one, so that there are as many, and bears its generation. Two arrays do not overlap: their ranges
//! are apart, or they have the same stride and count and lie in windows of the stride that are.
//!
//! A reader copies the table once ([`RecordTable`]), at most 64 entries, and takes the kinds that
//! it knows into its geometry ([`Geometry::with_records`]); it skips the others, and for the header's
//! own kinds the header counts. If one of the kinds breaks a rule, none beyond the header is used, and
//! everything else is ([`RecordTableError`] says why). A producer places them before the schema, which
//! is last: so the header alone says how much of the region has to be mapped.
//!
//! * *packed*: arrays of their own behind the header's, so that those stay dense;
//! * *page-granular*: what belongs to a record lies on its frame, labels on that of the dom record, and
//!   each share on a frame of its own.
//!
//! ## Distributions
//!
//! A group that is a distribution is `{ sum, max, buckets[n] }` ([`histogram`]): word `i` of the
//! buckets counts values whose bit length is `i`, the last all above. How many values there were is the sum
//! of the buckets. One recorded value is one update under `seq`.
//!
//! ## Shares
//!
//! A device that several threads or processes serve has a share record for each writer. Its group
//! `of` says of which device, of which generation of it; its other groups have the fields of the
//! device's ([`Share`]). While a device has an active share of a group, the truth is the sum of its
//! shares: counters, times and buckets add up, peaks take the largest, a word that is not produced makes
//! the sum not produced. The device's own group is that sum as of its `updated_ns`, for readers that
//! do not know shares. A share stays active for as long as the device's generation lasts, also when its
//! writer is gone, so that a sum never goes back.
//!
//! ## Labels
//!
//! One record holds what the operator calls the domain by: lines of `key=value` ([`labels`]), written
//! before the region is published and constant within an incarnation.
//!
//! ## Groups, and what a word says
//!
//! A stat group is `{ u32 seq; u32 rsvd; u64 updated_ns; u64 field[...]; }`. One bit of the
//! record's `stats_active` says whether it is produced. A group never grows: later fields of a
//! subject form a new group at the end of the record, with a bit of its own.
//!
//! `u64::MAX` says "not produced" and `u64::MAX - 1` "saturated", so that inactive, saturated,
//! zero and "group not active" stay four different answers: [`Stat`].
//!
//! ## Writing
//!
//! * Publish once: sizes, records, gaps and every active group first; then `state`; then the dom
//!   record's `magic`, with release ordering. `magic == 0` reads as "not ready".
//! * A group update is `seq` odd, release fence, words, `seq` even with release ([`seqlock`]).
//! * A group whose bit is clear is left with `seq` odd, and `stats_active` bits and `generation`
//!   change only while the `seq` of each group they concern is odd. So what `seq` guards includes
//!   them: a reader that looks at the bit and the generation between its two looks at `seq` can
//!   neither read a group that was never published nor take one tenant's numbers for another's.
//! * A group that has a *twin* is written twice: the first copy whole, then the second. Both bits
//!   are set and cleared together.
//! * The header's other words, `state` and `notify` apart, do not change within an incarnation,
//!   nor does the schema.
//!
//! ## Reading
//!
//! * The mapping is an allegation. Copy the header once ([`DomHeader::load`]), validate the copy
//!   ([`Geometry::validate`]), use only the result.
//! * A group may be read if its bit is set and it ends inside the producer's record size.
//! * Relaxed loads and acquire fences only: anything stronger may fault on a read-only page.
//! * A retry loop has a bound. A writer that was killed in mid-update leaves `seq` odd for ever.
//! * Unknown bits, larger sizes and parts are fine; smaller sizes mean fewer groups.
//! * Where a group has a twin and the first copy is busy, the second is read.
//!
//! ## Compatibility
//!
//! Revisions only append, and a revision is frozen when it lands: one module each ([`r1`] and so
//! on), plus [`latest`]; CONTRIBUTING.md says what it takes to add one. `revision` in the header is
//! information; sizes and bits decide what is read. An incompatible change would be a new magic.
//!
//! ## Twins
//!
//! A group takes updates at up to about a million a second; next to a writer that never pauses, a
//! reader of a group can run into its bound, and a writer that dies in mid-update takes the group
//! with it. A hot group can therefore have a twin, a second copy with a `seq` and a bit of its own
//! ([`twins`], which writers reach by [`WriteMem::twins`] and readers by [`ReadMem::twins`]). The
//! writer finishes the first copy before it begins the second;
//! a reader takes the first and, if that is busy, the second. Which groups have one is a column of
//! the descriptor table ([`GroupDesc::twin_of`]); none has before revision 4.
//!
#![doc = include_str!("../TABLE.md")]
#![no_std]

#[cfg(test)]
extern crate std;

mod bulk_copy;
mod copy;
pub mod descriptor;
pub mod directory;
pub mod frame;
pub mod geometry;
pub mod handover;
pub mod header;
pub mod histogram;
pub mod labels;
pub mod markdown;
mod mem;
pub mod percent;
pub mod r1;
pub mod r2;
pub mod r3;
pub mod r4;
pub mod r5;
mod record;
pub mod requests;
pub mod revision;
pub mod rfc_v3;
mod rule;
pub mod runstate_estimator;
pub mod schema;
pub mod seqlock;
pub mod share;
pub mod sink;
mod sync;
pub mod twins;
mod value;

pub use bulk_copy::{CopiedGroups, RecordArray};
pub use copy::CopyWidth;
pub use descriptor::{
    BlkGroup, BlkHistGroup, BlkQueueGroup, DomGroup, Field, Group, GroupDesc, LabelsGroup,
    NetGroup, NetQueueGroup, RecordKind, Revision, VcpuGroup, VcpuHistGroup,
};
pub use geometry::{Geometry, GeometryError, RecordTable, RecordTableError};
pub use header::{
    Clock, DOM_MAGIC, DomHeader, MAX_DEVICES, MAX_REGION_LEN, MAX_VCPUS, State, VCPU_MAGIC,
};
pub use histogram::HistogramGroup;
pub use mem::{ReadGroup, ReadMem, ReadTwins, WriteGroup, WriteMem, WriteTwins};
pub use record::{GroupSpan, TwinSpans};
pub use revision::REVISIONS;
pub use rule::Rule;
pub use schema::{Schema, SchemaError};
pub use share::Share;
pub use twins::Busy;
pub use value::{Name, Ns, Stat, Uuid, Word};

/// The newest revision that this build knows.
pub mod latest {
    pub use crate::r5::*;
}
const _: () = assert!(latest::REVISION == revision::NEWEST.number);
