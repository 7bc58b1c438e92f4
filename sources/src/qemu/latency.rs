//! Latency histograms of QEMU's block layer: set at powers of two, so that each bin is a bucket of
//! the layout's, and taken back in the end.
//!
//! Boundaries that someone else set are never replaced. Where they are the same powers of two, the
//! bins are published all the same.
//!
//! QEMU has no sum of the times in the bins. Where as many requests have ended since the histogram
//! was set as it has counted, the sum is how much the device's total time has grown since; where
//! they differ (requests ended while it was being set), there is none.

use std::collections::BTreeMap;

use domstat_layout::histogram::{Buckets, TimeBuckets};
use domstat_layout::latest::{FlLatency, RdLatency, WrLatency};
use domstat_layout::{Group, HistogramGroup, Word};
use serde_json::{Value, json};

use super::qmp::{Connection, QmpError};

/// Buckets of a time.
pub(super) const NR_BUCKETS: usize = TimeBuckets::NOT_PRODUCED.0.len();
/// Names of QEMU's histograms and of what belongs to each: requests that succeeded, that failed, and
/// their time in sum.
const KINDS: [[&str; 4]; 3] = [
    ["rd_latency_histogram", "rd_operations", "failed_rd_operations", "rd_total_time_ns"],
    ["wr_latency_histogram", "wr_operations", "failed_wr_operations", "wr_total_time_ns"],
    [
        "flush_latency_histogram",
        "flush_operations",
        "failed_flush_operations",
        "flush_total_time_ns",
    ],
];

/// One histogram of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Histogram {
    /// QEMU keeps none.
    Unset,
    /// It has other boundaries than the buckets.
    Foreign,
    /// Its bins are the buckets.
    Buckets(Box<[u64; NR_BUCKETS]>),
}

/// What QEMU says of one kind of request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Latency {
    pub(super) histogram: Histogram,
    /// Requests that have ended, and their time in sum.
    ended: Option<(u64, u64)>,
}

/// Reads, writes and flushes of a device, from its `stats` of query-blockstats.
pub(super) fn latencies(stats: &Value) -> [Latency; 3] {
    KINDS.map(|[histogram, succeeded, failed, total_ns]| {
        let number = |key: &str| stats[key].as_u64();
        let ended = || Some((number(succeeded)?.checked_add(number(failed)?)?, number(total_ns)?));
        Latency { histogram: decode(&stats[histogram]), ended: ended() }
    })
}

/// The boundaries between bins that are buckets: 1, 2, 4 and so on.
fn boundaries() -> impl Iterator<Item = u64> {
    (0..NR_BUCKETS - 1).map(|bits| 1 << bits)
}

fn decode(of: &Value) -> Histogram {
    let (Some(found), Some(bins)) = (of["boundaries"].as_array(), of["bins"].as_array()) else {
        return if of.is_null() { Histogram::Unset } else { Histogram::Foreign };
    };
    let same = found.iter().map(Value::as_u64).eq(boundaries().map(Some));
    let mut buckets = Box::new([0; NR_BUCKETS]);
    if !same || bins.len() != NR_BUCKETS {
        return Histogram::Foreign;
    }
    for (bucket, bin) in buckets.iter_mut().zip(bins) {
        let Some(bin) = bin.as_u64() else { return Histogram::Foreign };
        *bucket = bin;
    }
    Histogram::Buckets(buckets)
}

/// What one device's histograms are to us.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    /// We set them; as many requests had ended then, with so much time in sum.
    Us([Option<(u64, u64)>; 3]),
    /// Someone else set them, or took ours back.
    SomeoneElse,
    /// QEMU refuses.
    Nobody,
}

/// Distributions of a device as they are published; `None` if it has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Distributions {
    pub(crate) rd: Option<RdLatency>,
    pub(crate) wr: Option<WrLatency>,
    pub(crate) fl: Option<FlLatency>,
}

impl Distributions {
    /// Whether a bucket is lower than it was.
    pub(super) fn fell(&self, before: &Self) -> bool {
        fn fell<H: HistogramGroup>(is: Option<&H>, was: Option<&H>) -> bool {
            let pairs = is.zip(was).map(|(is, was)| is.buckets().iter().zip(was.buckets()));
            pairs.into_iter().flatten().any(|(is, was)| is.value() < was.value())
        }
        fell(self.rd.as_ref(), before.rd.as_ref())
            || fell(self.wr.as_ref(), before.wr.as_ref())
            || fell(self.fl.as_ref(), before.fl.as_ref())
    }
}

/// The histograms of a VM's devices, by the devices' ids.
#[derive(Debug, Default)]
pub(super) struct Histograms {
    owners: BTreeMap<String, Owner>,
}

impl Histograms {
    /// Sets those that are missing, of these devices and what was just said of them, and forgets
    /// other devices.
    ///
    /// # Errors
    /// [`QmpError`] of the connection; what QEMU refuses is left alone from then on.
    pub(super) fn set(
        &mut self,
        qmp: &mut Connection,
        devices: &[(&str, &[Latency; 3])],
    ) -> Result<(), QmpError> {
        self.owners.retain(|id, _| devices.iter().any(|(device, _)| device == id));
        for (id, latencies) in devices {
            let is_unset = latencies.iter().all(|l| l.histogram == Histogram::Unset);
            match (self.owners.get_mut(*id), is_unset) {
                (None, true) => {
                    let boundaries: Vec<u64> = boundaries().collect();
                    let arguments = json!({ "id": id, "boundaries": boundaries });
                    let owner = match qmp.ask("block-latency-histogram-set", &arguments) {
                        Ok(_) => Owner::Us(latencies.each_ref().map(|latency| latency.ended)),
                        Err(QmpError::Refused { .. }) => Owner::Nobody,
                        Err(error) => return Err(error),
                    };
                    self.owners.insert((*id).to_owned(), owner);
                }
                (None, false) => {
                    self.owners.insert((*id).to_owned(), Owner::SomeoneElse);
                }
                (Some(owner @ Owner::Us(_)), true) => *owner = Owner::SomeoneElse,
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes back what we set.
    ///
    /// # Errors
    /// [`QmpError`] of the connection.
    pub(super) fn take_back(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        for (id, owner) in std::mem::take(&mut self.owners) {
            if matches!(owner, Owner::Us(_)) {
                qmp.ask_lenient("block-latency-histogram-set", &json!({ "id": id }))?;
            }
        }
        Ok(())
    }

    /// What is published of a device.
    pub(super) fn distributions(&self, id: &str, latencies: &[Latency; 3]) -> Distributions {
        let began = match self.owners.get(id) {
            Some(Owner::Us(began)) => *began,
            _ => [None; 3],
        };
        let [rd, wr, fl] = latencies;
        let [rd_began, wr_began, fl_began] = began;
        let words = |latency: &Latency, began| {
            let Histogram::Buckets(buckets) = &latency.histogram else { return None };
            let sum = sum(&buckets[..], latency.ended, began);
            let buckets: TimeBuckets = Buckets(buckets.map(Word::new));
            Some((sum, buckets))
        };
        Distributions {
            rd: words(rd, rd_began).map(|(sum_ns, ns)| RdLatency {
                sum_ns,
                ns,
                ..RdLatency::NOT_PRODUCED
            }),
            wr: words(wr, wr_began).map(|(sum_ns, ns)| WrLatency {
                sum_ns,
                ns,
                ..WrLatency::NOT_PRODUCED
            }),
            fl: words(fl, fl_began).map(|(sum_ns, ns)| FlLatency {
                sum_ns,
                ns,
                ..FlLatency::NOT_PRODUCED
            }),
        }
    }
}

/// The time of the requests in the buckets, if they are those that ended since the histogram was
/// set.
fn sum(buckets: &[u64], ended: Option<(u64, u64)>, began: Option<(u64, u64)>) -> Word {
    let sum = || {
        let ((requests, ns), (requests_then, ns_then)) = (ended?, began?);
        let counted = buckets.iter().try_fold(0u64, |sum, bucket| sum.checked_add(*bucket))?;
        let since = requests.checked_sub(requests_then)?;
        (counted == since).then(|| ns.checked_sub(ns_then))?
    };
    sum().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device whose reads were 5 ns and 1,000 ns long since the histogram was set at `began`.
    fn stats(began: u64) -> Value {
        let mut bins = vec![0; NR_BUCKETS];
        (bins[3], bins[10]) = (1, 1);
        let boundaries: Vec<u64> = boundaries().collect();
        let histogram = json!({ "boundaries": boundaries, "bins": bins });
        json!({ "rd_latency_histogram": histogram, "rd_operations": began + 1,
                "failed_rd_operations": 1, "rd_total_time_ns": 50 + 1005,
                "wr_latency_histogram": { "boundaries": [10, 20], "bins": [1, 2, 3] } })
    }

    fn of(owner: Owner, stats: &Value) -> Distributions {
        let histograms = Histograms { owners: BTreeMap::from([("d".to_owned(), owner)]) };
        histograms.distributions("d", &latencies(stats))
    }

    #[test]
    fn bins_are_buckets_and_the_sum_is_of_the_same_requests() {
        let all: Vec<u64> = boundaries().collect();
        assert_eq!((all.len(), all[0], all[38]), (39, 1, 1 << 38));
        assert_eq!(TimeBuckets::bounds(39), Some((all[38], None)));
        let rd = of(Owner::Us([Some((7, 50)), None, None]), &stats(7)).rd.unwrap();
        assert_eq!((rd.count().value(), rd.sum_ns.value()), (Some(2), Some(1005)));
        assert_eq!((TimeBuckets::bucket_of(5), rd.ns.0[3].value()), (3, Some(1)));
        assert_eq!((TimeBuckets::bucket_of(1000), rd.ns.0[10].value()), (10, Some(1)));
        assert_eq!(rd.max_ns, Word::NOT_PRODUCED, "QEMU does not say");
        // A request ended while it was being set.
        let rd = of(Owner::Us([Some((6, 40)), None, None]), &stats(7)).rd.unwrap();
        assert_eq!((rd.count().value(), rd.sum_ns.value()), (Some(2), None));
    }

    #[test]
    fn other_boundaries_are_not_published_and_those_of_others_without_sum() {
        let all = of(Owner::SomeoneElse, &stats(7));
        assert_eq!((all.wr, all.fl), (None, None));
        let rd = all.rd.unwrap();
        assert_eq!((rd.count().value(), rd.sum_ns.value()), (Some(2), None));
    }

    #[test]
    fn hostile_histograms_are_not_buckets() {
        let boundaries: Vec<u64> = boundaries().collect();
        for hostile in [
            json!({}),
            json!([]),
            json!({ "boundaries": boundaries, "bins": [] }),
            json!({ "boundaries": boundaries, "bins": vec![-1; NR_BUCKETS] }),
            json!({ "boundaries": vec![1; NR_BUCKETS - 1], "bins": vec![1; NR_BUCKETS] }),
        ] {
            assert_eq!(decode(&hostile), Histogram::Foreign, "{hostile}");
        }
        let full = [u64::MAX; NR_BUCKETS];
        assert_eq!(sum(&full, Some((5, 5)), Some((0, 0))), Word::NOT_PRODUCED);
    }
}
