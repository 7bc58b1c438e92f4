//! Queue, failures and limits of a disk.

use domstat_layout::Word;
use domstat_layout::latest::{BlkFailures, BlkLimits, BlkQueue};

use super::Interval;
use domstat_consumer::Snapshot;

/// What a disk's numbers of revision 5 say; all absent for a producer of an earlier one.
#[derive(Default)]
pub(crate) struct QueueRow {
    /// Requests in flight.
    pub(crate) in_flight: Option<u64>,
    /// Mean number of requests in flight in the interval.
    pub(crate) length: Option<f64>,
    /// Share of the interval with a request in flight.
    pub(crate) busy: Option<f64>,
    /// Failed and refused requests.
    pub(crate) failed: Option<u64>,
    pub(crate) refused: Option<u64>,
    pub(crate) limits: Option<BlkLimits>,
    /// Seconds for which requests waited for a limit, in a second.
    pub(crate) throttled: Option<f64>,
}

fn in_flight(queue: &BlkQueue) -> Option<u64> {
    Some(queue.submitted.value()?.saturating_sub(queue.completed.value()?))
}

/// Busy and queued time of a device when a snapshot was taken, if it is known what was in flight
/// until then.
fn times(snapshot: &Snapshot, index: u32) -> Option<[Option<u64>; 2]> {
    let queue = snapshot.blk(index)?.queue_at(snapshot.taken()?).ok()?.active()?;
    in_flight(&queue)?;
    Some([queue.busy_ns.value(), queue.queued_ns.value()])
}

/// The sum of the numbers that are known.
fn total(words: &[Word]) -> Option<u64> {
    words.iter().filter_map(|word| word.value()).reduce(u64::saturating_add)
}

impl Interval<'_> {
    pub(super) fn queue(&self, index: u32) -> QueueRow {
        let queue = self.blk::<BlkQueue>(index);
        let failures = self.blk::<BlkFailures>(index).map(|p| p.now.group);
        let limits = self.blk::<BlkLimits>(index);
        let [busy, length] = queue
            .as_ref()
            .and_then(|queue| {
                // Of the same tenant of the slot.
                queue.then.as_ref()?;
                let passed = self.now.taken()?.since(self.then?.taken()?);
                let (before, after) = (times(self.then?, index)?, times(self.now, index)?);
                let grown = |i: usize| {
                    let grown = after.get(i)?.as_ref()?.checked_sub((*before.get(i)?)?)?;
                    (passed > 0).then(|| grown as f64 / passed as f64)
                };
                Some([grown(0).map(|share| share.min(1.0)), grown(1)])
            })
            .unwrap_or_default();
        let by_operation = |f: &BlkFailures| {
            [
                [f.rd_failed, f.wr_failed, f.flush_failed, f.dis_failed],
                [f.rd_invalid, f.wr_invalid, f.flush_invalid, f.dis_invalid],
            ]
        };
        let [failed, refused] =
            failures.as_ref().map_or([None; 2], |f| by_operation(f).map(|words| total(&words)));
        QueueRow {
            in_flight: queue.as_ref().and_then(|p| in_flight(&p.now.group)),
            length,
            busy,
            failed,
            refused,
            throttled: limits.as_ref().and_then(|p| p.share(|l| l.throttled_ns)),
            limits: limits.map(|p| p.now.group),
        }
    }
}
