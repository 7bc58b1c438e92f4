//! How groups are declared, and what the compiler checks of a declaration.

use crate::descriptor::{FieldDesc, GroupDesc};
use crate::record::{GROUP_ALIGN, GROUP_HEADER_LEN};

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
/// `twins!` declares second copies of earlier groups, `copies!` groups with the fields of another.
macro_rules! groups {
    (@marker dom $g:ident) => { impl $crate::descriptor::DomGroup for $g {} };
    (@marker vcpu $g:ident) => { impl $crate::descriptor::VcpuGroup for $g {} };
    (@marker blk $g:ident) => { impl $crate::descriptor::BlkGroup for $g {} };
    (@marker net $g:ident) => { impl $crate::descriptor::NetGroup for $g {} };
    (@marker vcpu_hist $g:ident) => { impl $crate::descriptor::VcpuHistGroup for $g {} };
    (@marker blk_hist $g:ident) => { impl $crate::descriptor::BlkHistGroup for $g {} };
    (@marker labels $g:ident) => { impl $crate::descriptor::LabelsGroup for $g {} };
    (@marker blk_queue $g:ident) => { impl $crate::descriptor::BlkQueueGroup for $g {} };
    (@marker net_queue $g:ident) => { impl $crate::descriptor::NetQueueGroup for $g {} };
    (@field Word, $field:ident, $offset:expr) => {
        #[doc = concat!("The field `", stringify!($field), "`, to read or update it alone.")]
        pub const $field: $crate::descriptor::Field<Self> = $crate::descriptor::Field::at($offset);
    };
    // Longer than a word: only read and written with its group.
    (@field $ty:ident, $field:ident, $offset:expr) => {};
    (@kind dom) => { $crate::descriptor::RecordKind::Dom };
    (@kind vcpu) => { $crate::descriptor::RecordKind::Vcpu };
    (@kind blk) => { $crate::descriptor::RecordKind::Blk };
    (@kind net) => { $crate::descriptor::RecordKind::Net };
    (@kind vcpu_hist) => { $crate::descriptor::RecordKind::VcpuHist };
    (@kind blk_hist) => { $crate::descriptor::RecordKind::BlkHist };
    (@kind labels) => { $crate::descriptor::RecordKind::Labels };
    (@kind blk_queue) => { $crate::descriptor::RecordKind::BlkQueue };
    (@kind net_queue) => { $crate::descriptor::RecordKind::NetQueue };
    ($(
        $(#[doc = $gdoc:literal])+
        $record:ident $bit:literal at $at:literal len $len:literal since $since:literal
        $group:ident $gname:literal {
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
                twin_of: None,
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

/// Declares second copies of groups: `vcpu 3 at 224 len 64 since 4 RunstateTwin "runstate_twin" of
/// Runstate;` reads as in `groups!`, and the fields are those of the first copy, in order.
///
/// A second copy is written and read through the first, so that its type has no fields of its own
/// and is not a group of its record's marker trait.
macro_rules! twins {
    ($(
        $(#[doc = $gdoc:literal])+
        $record:ident $bit:literal at $at:literal len $len:literal since $since:literal
        $group:ident $gname:literal of $first:ident;
    )+) => { $(
        $(#[doc = $gdoc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
        #[repr(transparent)]
        pub struct $group(pub $first);

        impl $crate::descriptor::Group for $group {
            const DESC: &'static $crate::descriptor::GroupDesc = &$crate::descriptor::GroupDesc {
                name: $gname,
                record: $crate::descriptor::groups!(@kind $record),
                bit: $bit,
                offset: $at,
                size: $len,
                since: $since,
                twin_of: Some(<$first as $crate::descriptor::Group>::DESC),
                doc: concat!($($gdoc),+),
                fields: &$crate::descriptor::copied_fields::<
                    { <$first as $crate::descriptor::Group>::DESC.fields.len() },
                >(<$first as $crate::descriptor::Group>::DESC, $at, " As in the first copy."),
            };
            const NOT_PRODUCED: Self = Self(<$first as $crate::descriptor::Group>::NOT_PRODUCED);
        }

        const _: () = assert!(size_of::<$group>() + $crate::descriptor::GROUP_HEADER_LEN == $len);
    )+ };
}
pub(crate) use twins;

/// Declares groups with the fields of another: `blk_queue 1 at 80 len 64 since 5 BlkQueueIo "io" as
/// BlkIo;` reads as in `groups!`. Unlike a second copy, such a group is one in its own right: a
/// writer's share of the other ([`crate::share`]).
macro_rules! copies {
    ($(
        $(#[doc = $gdoc:literal])+
        $record:ident $bit:literal at $at:literal len $len:literal since $since:literal
        $group:ident $gname:literal as $of:ident;
    )+) => { $(
        $(#[doc = $gdoc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
        #[repr(transparent)]
        pub struct $group(pub $of);

        impl $crate::descriptor::Group for $group {
            const DESC: &'static $crate::descriptor::GroupDesc = &$crate::descriptor::GroupDesc {
                name: $gname,
                record: $crate::descriptor::groups!(@kind $record),
                bit: $bit,
                offset: $at,
                size: $len,
                since: $since,
                twin_of: None,
                doc: concat!($($gdoc),+),
                fields: &$crate::descriptor::copied_fields::<
                    { <$of as $crate::descriptor::Group>::DESC.fields.len() },
                >(
                    <$of as $crate::descriptor::Group>::DESC,
                    $at,
                    concat!(" As in the `", $gname, "` of the device."),
                ),
            };
            const NOT_PRODUCED: Self = Self(<$of as $crate::descriptor::Group>::NOT_PRODUCED);
        }
        $crate::descriptor::groups!(@marker $record $group);

        impl $crate::share::Share for $group {
            type Of = $of;

            fn share(whole: $of) -> Self {
                Self(whole)
            }

            fn whole(self) -> $of {
                self.0
            }
        }

        impl $crate::share::Whole for $of {
            type Share = $group;
        }

        const _: () = assert!(size_of::<$group>() + $crate::descriptor::GROUP_HEADER_LEN == $len);
    )+ };
}
pub(crate) use copies;

/// The fields of `first`, as a group has them that lies at `at`.
#[allow(clippy::indexing_slicing, reason = "runs in constant evaluation only")]
pub(crate) const fn copied_fields<const N: usize>(
    first: &GroupDesc,
    at: usize,
    doc: &'static str,
) -> [FieldDesc; N] {
    let mut fields = [first.fields[0]; N];
    let mut i = 0;
    while i < N {
        fields[i] = FieldDesc {
            offset: at + (first.fields[i].offset - first.offset),
            doc,
            ..first.fields[i]
        };
        i += 1;
    }
    fields
}
