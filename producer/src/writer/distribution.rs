//! Updates of several fields at once: values recorded in histograms, and counters that belong
//! together.

use domstat_layout::histogram::HistogramGroup;
use domstat_layout::revision::spans;
use domstat_layout::{BlkHistGroup, BlkQueueGroup, Field, Group, Ns, VcpuHistGroup, Word};

use super::{BlkHistWriter, BlkQueueWriter, RecordWriter, VcpuHistWriter, word_index};

impl RecordWriter {
    /// Publishes a group unless it is active, as it is when the region continues that of an earlier
    /// process; returns whether it was.
    pub(super) fn begin<G: Group>(&mut self, group: &G, now: Ns) -> bool {
        let was_active = self.record.is_active(G::DESC.span());
        if !was_active {
            self.write(group, now);
        }
        was_active
    }

    /// Makes of some fields of a group what `change` makes of what they are, in one update. A group
    /// that is not active stays so.
    #[inline]
    pub(super) fn change<G: Group, const N: usize>(
        &mut self,
        fields: [Field<G>; N],
        now: Ns,
        change: impl FnOnce([Word; N]) -> [Word; N],
    ) {
        if self.record.is_active(G::DESC.span()) {
            let spans = const { spans(G::DESC) };
            let change = |raw: [u64; N]| change(raw.map(Word::from_raw)).map(Word::to_raw);
            self.record.change(spans, now.0, fields.map(word_index), change);
        }
    }

    /// Records a value: its bucket, the sum and the maximum change in one update.
    #[inline]
    pub(super) fn record<G: HistogramGroup>(&mut self, value: u64, now: Ns) {
        if !self.record.is_active(G::DESC.span()) {
            return self.record_first::<G>(value, now);
        }
        self.change([G::SUM, G::MAX, G::bucket(value)], now, |[sum, max, bucket]| {
            [sum.plus(value.into()), max.or_larger(value.into()), bucket.plus(1.into())]
        });
    }

    /// As [`RecordWriter::record`], the first value of a group that is not active.
    #[cold]
    #[inline(never)]
    fn record_first<G: HistogramGroup>(&mut self, value: u64, now: Ns) {
        let mut group = G::EMPTY;
        group.record(value);
        self.write(&group, now);
    }
}

/// Declares how a writer of distributions records one value.
macro_rules! recording {
    ($($writer:ident $group:ident $example:literal;)+) => { $(
        impl $writer {
            /// Records a value in a distribution, as of `now`: its bucket, the sum and the maximum
            /// change in one update, and nothing else does. The first value marks the group active;
            /// until then it is not produced.
            ///
            #[doc = concat!("For example `", $example, "`.")]
            #[inline]
            pub fn record<G: $group + HistogramGroup>(&mut self, value: u64, now: Ns) {
                self.0.record::<G>(value, now);
            }
        }
    )+ };
}
recording! {
    VcpuHistWriter VcpuHistGroup "writer.record::<Wait>(ns, now)";
    BlkHistWriter BlkHistGroup "writer.record::<RdLatency>(ns, now)";
    BlkQueueWriter BlkQueueGroup "writer.record::<BlkQueueRdLatency>(ns, now)";
}
