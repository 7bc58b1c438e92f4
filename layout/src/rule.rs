//! The numbered rules of the ABI.

use core::fmt;

macro_rules! rules {
    ($($id:ident $title:literal;)+) => {
        /// A rule of the ABI: what holds for every region.
        ///
        /// [`crate::Geometry::validate`] enforces those that keep a reader inside its mapping; the
        /// invariant checker checks all of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $( #[doc = $title] $id, )+
        }

        impl Rule {
            /// Every rule, in order.
            pub const ALL: &[Self] = &[$(Self::$id),+];

            /// The rule's name, for example `I04`.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $( Self::$id => stringify!($id), )+ }
            }

            /// The rule in a few words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $( Self::$id => $title, )+ }
            }
        }
    };
}

rules! {
    I01 "the dom record's magic is known";
    I02 "every record of an array and every arch slot carries its magic and its index";
    I03 "header <= dom_size <= mapping";
    I04 "vcpu_offs >= dom_size";
    I05 "stride >= size >= record header, of every array";
    I06 "every array and section ends inside the mapping";
    I07 "0 < nr_vcpus <= 65536; other arrays are absent or as long";
    I08 "offsets, sizes and strides are multiples of 8";
    I09 "align is a power of two; starts and strides of arrays are multiples of it";
    I10 "no two sections overlap";
    I11 "reserved words are zero";
    I12 "no bit of stats_active is set that the producer's revision does not define";
    I13 "an active group ends inside the producer's record";
    I14 "bytes of an inactive group do not change";
    I15 "gap bytes are zero";
    I16 "seq is even at rest, and odd no longer than the deadline";
    I17 "guarded words change only together with seq";
    I18 "header words and the schema are constant within an incarnation";
    I19 "counters, peaks and buckets do not decrease; saturation is sticky";
    I20 "runstate times sum to the time since the vCPU began, and track the clock";
    I21 "every active group was published before the region became visible";
    I22 "enum fields are in range, strings are terminated, the schema is legal";
    I23 "arch slots lie inside their declared areas";
    I24 "a mapping cannot be made writable, and the region cannot shrink";
    I25 "across revisions every field keeps its place and meaning";
    I26 "no vCPU runs longer than the thread that runs it";
    I27 "a distribution's maximum lies in its highest bucket, its sum within what buckets allow";
    I28 "a queue is busy no longer than time passes, and completes no more than was submitted";
    I29 "labels are lines of key=value, and no key stands twice";
    I30 "shares are of devices that there are, and no less than the device's own groups";
    I31 "the seq of an inactive group is odd, or 0 if it was never written";
    I32 "a group and its twin are active together";
    I33 "a vCPU that ran for long has waited or halted, or its producer does not claim to know";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}
