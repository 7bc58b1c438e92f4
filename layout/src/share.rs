//! Shares: groups that several writers keep of one device, and their sum.
//!
//! A device that several threads or processes serve has one record for each of them, whose groups
//! have the fields of the device's. While a device has a share that is active, the truth is the sum
//! of its shares; the device's own groups are that sum as of their `updated_ns`.

use crate::descriptor::{Field, Group, GroupDesc, Kind};
use crate::value::Word;
use zerocopy::{FromBytes, IntoBytes};

/// A group that is one writer's share of another.
pub trait Share: Group {
    /// The group that it is a share of, which has the same fields.
    type Of: Group;

    /// The share's own field for one of the whole.
    #[inline]
    #[must_use]
    fn field(of: Field<Self::Of>) -> Field<Self> {
        Field::at(of.offset() - Self::Of::DESC.offset + Self::DESC.offset)
    }

    /// The whole as a share: that of the only writer.
    #[must_use]
    fn share(whole: Self::Of) -> Self;

    /// The share as the whole: that of a device with this share alone.
    #[must_use]
    fn whole(self) -> Self::Of;

    /// Adds the share to `sum` ([`add`]).
    fn add_to(&self, sum: &mut Self::Of) {
        let share = <[u64]>::ref_from_bytes(self.as_bytes());
        // Always so: a group is made of aligned words.
        if let (Ok(sum), Ok(share)) = (<[u64]>::mut_from_bytes(sum.as_mut_bytes()), share) {
            add(Self::Of::DESC, sum, share);
        }
    }
}

/// A group that a device has and each of its shares, too.
pub trait Whole: Group {
    /// The group of a share.
    type Share: Share<Of = Self>;
}

/// Adds the words of a share to those of a sum. The words are those of the fields of `desc`, as
/// they lie in memory.
///
/// Counters, buckets and numbers of the moment add up, peaks take the largest. A word that is not
/// produced makes the sum not produced, a saturated one leaves it saturated. Identity, states and
/// text have no sum: they are not produced unless all shares say the same.
pub fn add(desc: &GroupDesc, sum: &mut [u64], share: &[u64]) {
    let mut words = sum.iter_mut().zip(share);
    for field in desc.fields {
        for _ in 0..field.width / 8 {
            let Some((sum, share)) = words.next() else { return };
            let (a, b) = (Word::from_raw(*sum), Word::from_raw(*share));
            *sum = match field.kind {
                Kind::Cumulative | Kind::Instant | Kind::LogHistogram => a.plus(b),
                Kind::Peak => a.or_larger(b),
                Kind::State(_) | Kind::Id | Kind::Text if a == b => a,
                Kind::State(_) | Kind::Id | Kind::Text => Word::NOT_PRODUCED,
            }
            .to_raw();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stat;
    use crate::histogram::HistogramGroup;
    use crate::latest::{BlkIo, BlkQueueIo, BlkQueueOf, BlkQueueRdLatency, REV, RdLatency};

    fn io(words: [Word; 6]) -> BlkIo {
        let [rd_req, rd_bytes, wr_req, wr_bytes, errs, in_flight] = words;
        BlkIo { rd_req, rd_bytes, wr_req, wr_bytes, errs, in_flight }
    }

    #[test]
    fn words_add_up_and_absent_and_saturated_stay_so() {
        let (n, none, full) = (Word::new, Word::NOT_PRODUCED, Word::SATURATED);
        let mut sum = io([n(1), n(2), none, full, n(u64::MAX - 2), full]);
        BlkQueueIo(io([n(10), none, n(3), n(4), n(1), none])).add_to(&mut sum);
        assert_eq!(sum, io([n(11), none, none, full, full, none]));
        assert_eq!(BlkQueueIo::share(sum).whole(), sum);
    }

    #[test]
    fn of_peaks_the_largest_is_taken_and_buckets_add_up() {
        let (mut sum, mut share) = (RdLatency::EMPTY, BlkQueueRdLatency::EMPTY);
        [5, 900].into_iter().for_each(|ns| sum.record(ns));
        [6, 7].into_iter().for_each(|ns| share.record(ns));
        share.add_to(&mut sum);
        assert_eq!((sum.sum().value(), sum.max().value()), (Some(918), Some(900)));
        assert_eq!((sum.ns.0[3].value(), sum.count().value()), (Some(3), Some(4)));
        share.0.max_ns = Word::SATURATED;
        share.add_to(&mut sum);
        assert_eq!(sum.max().get(), Stat::Saturated);
        share.0.max_ns = Word::NOT_PRODUCED;
        share.add_to(&mut sum);
        assert_eq!(sum.max().get(), Stat::NotProduced);
    }

    #[test]
    fn of_what_identifies_there_is_no_sum() {
        let desc = BlkQueueOf::DESC;
        let mut sum = [1, 2, 3, 4];
        add(desc, &mut sum, &[1, 9, 3, u64::MAX]);
        assert_eq!(sum, [1, u64::MAX, 3, u64::MAX]);
        add(desc, &mut sum[..1], &[2, 2, 2, 2]);
        assert_eq!(sum, [u64::MAX, u64::MAX, 3, u64::MAX], "no further than there are words");
    }

    #[test]
    fn a_share_has_the_fields_of_the_whole_at_its_own_place() {
        assert_eq!(BlkQueueIo::field(BlkIo::errs).offset(), 80 + 48);
        let device = [crate::RecordKind::Blk, crate::RecordKind::BlkHist, crate::RecordKind::Net];
        let shares = [crate::RecordKind::BlkQueue, crate::RecordKind::NetQueue];
        let mut nr = 0;
        for share in shares.into_iter().flat_map(|kind| &REV.groups(kind)[1..]) {
            let of_net = share.record == crate::RecordKind::NetQueue;
            let mut wholes = device
                .into_iter()
                .filter(|kind| (*kind == crate::RecordKind::Net) == of_net)
                .flat_map(|kind| REV.groups(kind))
                .filter(|whole| whole.name == share.name);
            let whole = wholes.next().unwrap();
            assert!(wholes.next().is_none() && share.twin_of.is_none());
            assert_eq!(share.size, whole.size);
            for (a, b) in share.fields.iter().zip(whole.fields) {
                assert_eq!((a.name, a.width, a.kind, a.unit), (b.name, b.width, b.kind, b.unit));
                assert_eq!(a.offset - share.offset, b.offset - whole.offset);
            }
            nr += 1;
        }
        assert_eq!(nr, 11);
    }
}
