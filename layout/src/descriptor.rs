//! The descriptor table: what every group and field is, where it lies, and the macro that
//! declares a group once and derives everything else from that declaration.

use core::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which record a group lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// The one record that starts the region.
    Dom,
    /// A record of the vCPU array.
    Vcpu,
}

impl RecordKind {
    /// Bytes before the first group.
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::Dom => crate::header::DOM_HEADER_LEN,
            Self::Vcpu => crate::header::RECORD_HEADER_LEN,
        }
    }

    /// Offset of the record's `stats_active` word.
    #[must_use]
    pub const fn active_offset(self) -> usize {
        match self {
            Self::Dom => crate::header::dom::STATS_ACTIVE,
            Self::Vcpu => crate::header::record::STATS_ACTIVE,
        }
    }

    /// Whether the header's eight bytes at `offset` are one u64; else they are two u32.
    #[must_use]
    pub(crate) const fn is_u64(self, offset: usize) -> bool {
        match self {
            Self::Dom => {
                matches!(offset, crate::header::dom::STATS_ACTIVE | crate::header::dom::INCARNATION)
            }
            Self::Vcpu => offset == crate::header::record::STATS_ACTIVE,
        }
    }

    /// `dom` or `vcpu`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dom => "dom",
            Self::Vcpu => "vcpu",
        }
    }
}

/// How a field's values behave over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never decreases within an incarnation and generation.
    Cumulative,
    /// May go up and down.
    Instant,
    /// One of the named values, in order from 0.
    State(&'static [&'static str]),
    /// Identifies something; constant within an incarnation.
    Id,
    /// Text terminated by a zero byte.
    Text,
}

impl Kind {
    /// One word for tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cumulative => "cumulative",
            Self::Instant => "instant",
            Self::State(_) => "state",
            Self::Id => "id",
            Self::Text => "text",
        }
    }
}

/// What a field counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number, or no number at all.
    None,
    /// Nanoseconds, on the region's clock where it is a point in time.
    Ns,
    /// Bytes.
    Bytes,
    /// How often something happened.
    Events,
}

impl Unit {
    /// One word for tables; `-` for [`Unit::None`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Ns => "ns",
            Self::Bytes => "bytes",
            Self::Events => "events",
        }
    }
}

/// Bytes of a group before its first field: `seq`, a reserved word, `updated_ns`.
pub const GROUP_HEADER_LEN: usize = 16;
/// Where `rsvd` lies in a group.
pub const GROUP_RSVD: usize = 4;
/// Where `updated_ns` lies in a group.
pub const GROUP_UPDATED_NS: usize = 8;
/// Groups start at multiples of this, so that their fields can be copied with 16-byte loads.
pub const GROUP_ALIGN: usize = 16;

/// One field of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldDesc {
    /// Its name, with the unit in it.
    pub name: &'static str,
    /// Where it lies, from the start of its record.
    pub offset: usize,
    /// Its length in bytes; a multiple of 8.
    pub width: usize,
    /// How it behaves over time.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// What it means and what it corresponds to.
    pub doc: &'static str,
}

/// One stat group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupDesc {
    /// Its name in tables and output.
    pub name: &'static str,
    /// The record it lies in.
    pub record: RecordKind,
    /// Its bit in the record's `stats_active`.
    pub bit: u32,
    /// Where it starts, from the start of its record; a multiple of [`GROUP_ALIGN`].
    pub offset: usize,
    /// Its length with header; a multiple of [`GROUP_ALIGN`].
    pub size: usize,
    /// The revision that added it.
    pub since: u32,
    /// The earlier group of the same record that this one is a second copy of, if it is one: its
    /// twin. Both have the same fields; the writer writes the earlier one first.
    pub twin_of: Option<&'static Self>,
    /// What it is, who writes it and when it changes.
    pub doc: &'static str,
    /// Its fields, in order.
    pub fields: &'static [FieldDesc],
}

impl GroupDesc {
    /// First byte after the group, from the start of its record.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.offset + self.size
    }

    /// The group's bit as a mask.
    #[must_use]
    pub const fn mask(&self) -> u64 {
        1 << self.bit
    }

    /// The group's twin among its record's groups, if it has one.
    #[must_use]
    #[allow(clippy::indexing_slicing, reason = "the index is below the length")]
    pub const fn twin_in(&self, groups: &[&'static Self]) -> Option<&'static Self> {
        let mut i = 0;
        while i < groups.len() {
            if let Some(first) = groups[i].twin_of
                && first.bit == self.bit
            {
                return Some(groups[i]);
            }
            i += 1;
        }
        None
    }

    /// 64-bit words of the group's fields, without its header.
    #[must_use]
    pub const fn payload_words(&self) -> usize {
        (self.size - GROUP_HEADER_LEN) / 8
    }
}

/// A stat group as a type: the fields as they lie in memory, without the group's header.
///
/// Implemented by the table of each revision ([`crate::r1`]) and by nothing else.
pub trait Group: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Send + 'static {
    /// The group's row in the descriptor table.
    const DESC: &'static GroupDesc;
    /// Every field not produced: the value to start from when only some are.
    const NOT_PRODUCED: Self;
}

/// A group of the dom record.
pub trait DomGroup: Group {}
/// A group of the vcpu record.
pub trait VcpuGroup: Group {}

/// One 64-bit field of group `G`, for reading or updating it alone.
pub struct Field<G> {
    offset: usize,
    group: PhantomData<fn() -> G>,
}

impl<G> Clone for Field<G> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<G> Copy for Field<G> {}

impl<G> Field<G> {
    pub(crate) const fn at(offset: usize) -> Self {
        Self { offset, group: PhantomData }
    }

    /// Where the field lies, from the start of its record.
    #[must_use]
    pub const fn offset(self) -> usize {
        self.offset
    }
}

/// Checks a record's group list at compile time: bits are 0, 1, 2 ..., each group starts where
/// the one before ended (groups are only ever appended), nothing overlaps.
#[allow(clippy::indexing_slicing, reason = "runs in constant evaluation only")]
pub(crate) const fn assert_appended(groups: &[&'static GroupDesc], header_len: usize) {
    let mut end = header_len;
    let mut i = 0;
    while i < groups.len() {
        let g = groups[i];
        assert!(g.bit as usize == i, "bits are given out in order");
        assert!(g.bit < 64, "the bitmap word is full: append another one");
        assert!(g.offset == end, "a group starts where the one before it ends");
        assert!(g.offset.is_multiple_of(GROUP_ALIGN) && g.size.is_multiple_of(GROUP_ALIGN));
        let mut field_end = g.offset + GROUP_HEADER_LEN;
        let mut f = 0;
        while f < g.fields.len() {
            assert!(g.fields[f].offset == field_end, "fields leave no hole");
            assert!(g.fields[f].width.is_multiple_of(8));
            field_end += g.fields[f].width;
            f += 1;
        }
        assert!(field_end == g.end(), "every field of the group is listed");
        if let Some(first) = g.twin_of {
            assert!(first.bit < g.bit && groups[first.bit as usize].offset == first.offset);
            assert!(first.twin_of.is_none() && first.twin_in(groups).is_some());
            assert!(first.size == g.size && first.fields.len() == g.fields.len());
        }
        end = g.end();
        i += 1;
    }
}

/// Declares stat groups: from one declaration come the typed struct, its offsets, its row in the
/// descriptor table and the compile-time checks.
///
/// `dom 0 at 128 len 176 since 1 Identity "identity" { 16 domid: Word, Kind::Id, Unit::None; }`
/// reads: bit 0 of the dom record, at byte 128 of it, 176 bytes with header, added by revision 1;
/// the field `domid` lies 16 bytes into the group. The numbers are the frozen ABI, written out so
/// that a review sees them; a declaration whose numbers disagree with the types does not compile.
///
/// `... 4 RunstateTwin "runstate_twin" twin of Runstate { ... }` makes the group the second copy of
/// an earlier one, with the same fields.
macro_rules! groups {
    (@marker dom $g:ident) => { impl $crate::descriptor::DomGroup for $g {} };
    (@marker vcpu $g:ident) => { impl $crate::descriptor::VcpuGroup for $g {} };
    (@field Word, $field:ident, $offset:expr) => {
        #[doc = concat!("The field `", stringify!($field), "`, to read or update it alone.")]
        pub const $field: $crate::descriptor::Field<Self> = $crate::descriptor::Field::at($offset);
    };
    // Longer than a word: only read and written with its group.
    (@field $ty:ident, $field:ident, $offset:expr) => {};
    (@twin) => { None };
    (@twin $first:ident) => { Some(<$first as $crate::descriptor::Group>::DESC) };
    (@kind dom) => { $crate::descriptor::RecordKind::Dom };
    (@kind vcpu) => { $crate::descriptor::RecordKind::Vcpu };
    ($(
        $(#[doc = $gdoc:literal])+
        $record:ident $bit:literal at $at:literal len $len:literal since $since:literal
        $group:ident $gname:literal $(twin of $first:ident)? {
            $(
                $(#[doc = $fdoc:literal])+
                $foff:literal $field:ident : $ty:ident, $kind:expr, $unit:expr;
            )+
        }
    )+) => { $(
        $(#[doc = $gdoc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
        #[repr(C)]
        pub struct $group {
            $( $(#[doc = $fdoc])+ pub $field: $ty, )+
        }

        #[allow(non_upper_case_globals)]
        impl $group {
            $( groups!(@field $ty, $field, $at + $foff); )+
        }

        impl $crate::descriptor::Group for $group {
            const DESC: &'static $crate::descriptor::GroupDesc = &$crate::descriptor::GroupDesc {
                name: $gname,
                record: groups!(@kind $record),
                bit: $bit,
                offset: $at,
                size: $len,
                since: $since,
                twin_of: groups!(@twin $($first)?),
                doc: concat!($($gdoc),+),
                fields: &[$( $crate::descriptor::FieldDesc {
                    name: stringify!($field),
                    offset: $at + $foff,
                    width: size_of::<$ty>(),
                    kind: $kind,
                    unit: $unit,
                    doc: concat!($($fdoc),+),
                } ),+],
            };
            const NOT_PRODUCED: Self = Self { $( $field: <$ty>::NOT_PRODUCED, )+ };
        }
        groups!(@marker $record $group);

        const _: () = {
            $( assert!(
                core::mem::offset_of!($group, $field) + $crate::descriptor::GROUP_HEADER_LEN == $foff,
                "a field is not where the table says"
            ); )+
            assert!(size_of::<$group>() + $crate::descriptor::GROUP_HEADER_LEN == $len);
            assert!(align_of::<$group>() == 8);
        };
    )+ };
}
pub(crate) use groups;

#[cfg(test)]
mod tests;
