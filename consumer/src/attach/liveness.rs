//! Liveness of a region, judged by its words.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domstat_layout::descriptor::GROUP_UPDATED_NS;
use domstat_layout::latest::REV;
use domstat_layout::{GroupDesc, Ns, RecordKind};

use crate::attach::truncation::Truncated;
use crate::error::StalledWriter;
use crate::region::Region;

/// How a region stands. Only the values of a [`Liveness::Live`] one are to be shown as those of
/// now; every other state says why they are old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// The producer lives, the domain is there, and something was written not long ago.
    Live,
    /// Nothing was written for longer than [`Limits::stale_after`]: the producer lives, and is
    /// stopped, or has nothing to say.
    Stale {
        /// Time since the last write.
        age: Duration,
    },
    /// A group has been in mid-update for longer than [`Limits::stalled_after`], its writer was
    /// stopped or died there, and nothing else was written since. Where other records are written, as by
    /// other processes, the region is live, and [`Attachment::stalled`](super::Attachment::stalled) names the
    /// record.
    Stalled(StalledWriter),
    /// A plain file that no producer held when it was attached: its producer had exited already, or
    /// keeps no lock on it.
    Unheld,
    /// The producer has exited without retiring the region.
    Dead,
    /// Another region replaced this one: reattach.
    Restarted,
    /// The domain has ended; its last values are final.
    Retired,
    /// The memory went away; there are no values.
    Lost(Truncated),
}

impl Liveness {
    /// Every [`Liveness::name`].
    pub const NAMES: [&'static str; 8] =
        ["live", "stale", "stalled", "unheld", "dead", "restarted", "retired", "lost"];

    /// Whether values are those of now.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self, Self::Live)
    }

    /// Whether the producer lives and publishes the domain: [`Liveness::Live`],
    /// [`Liveness::Stale`] and [`Liveness::Stalled`].
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Live | Self::Stale { .. } | Self::Stalled(_))
    }

    /// Whether reattaching can help: [`Liveness::Dead`], [`Liveness::Restarted`] and
    /// [`Liveness::Lost`].
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Dead | Self::Restarted | Self::Lost(_))
    }

    /// `live`, `stale`, `stalled`, `unheld`, `dead`, `restarted`, `retired` or `lost`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stale { .. } => "stale",
            Self::Stalled(_) => "stalled",
            Self::Unheld => "unheld",
            Self::Dead => "dead",
            Self::Restarted => "restarted",
            Self::Retired => "retired",
            Self::Lost(_) => "lost",
        }
    }
}

/// From when on a silence means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a group may be in mid-update. Measured from the first look that sees it.
    pub stalled_after: Duration,
    /// How old the newest write of the region may be. `None` for producers that only write when
    /// something happens.
    pub stale_after: Option<Duration>,
}

impl Default for Limits {
    /// 100 ms and 10 s.
    fn default() -> Self {
        Self {
            stalled_after: Duration::from_millis(100),
            stale_after: Some(Duration::from_secs(10)),
        }
    }
}

/// A record of which a group stands in mid-update: its writer was stopped or died there, while others
/// are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StalledRecord {
    /// The record's kind.
    pub record: RecordKind,
    /// Its index in its array; 0 for the dom record.
    pub index: u32,
    /// The group, and for how long it has been seen so.
    pub writer: StalledWriter,
    /// When the newest of the record's groups was written, as of the first look that saw it so: what is as old as
    /// that is not of now, whichever group it is in.
    pub(crate) newest: Option<Ns>,
}

impl StalledRecord {
    /// What the record is called: `blk 2`, `dom`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.record {
            RecordKind::Dom => self.record.name().to_owned(),
            record => format!("{} {}", record.name(), self.index),
        }
    }
}

/// What earlier looks saw in mid-update, in order of the records.
#[derive(Default)]
pub(crate) struct Looks(Mutex<Vec<Odd>>);

/// No more groups in mid-update are followed: far more than device processes that could die in the same
/// interval have queues.
const MAX_ODD: usize = 1024;

#[derive(Clone, Copy)]
struct Odd {
    record: RecordKind,
    index: u32,
    group: &'static GroupDesc,
    seq: u32,
    first_seen: Instant,
    last_seen: Instant,
    /// The newest write to its record, and to any, when it was first seen.
    newest: Option<Ns>,
    newest_of_all: Option<Ns>,
}

impl Odd {
    const fn place(&self) -> (RecordKind, u32, u32) {
        (self.record, self.index, self.group.bit)
    }

    fn waited(&self) -> Duration {
        self.last_seen.saturating_duration_since(self.first_seen)
    }

    fn writer(&self) -> StalledWriter {
        let Self { record, index, group, seq, .. } = *self;
        let index = (record != RecordKind::Dom).then_some(index);
        let (record, group) = (Some(record), Some(group.name));
        StalledWriter { record, index, group, seq, retries: 0, waited: self.waited() }
    }
}

impl Looks {
    /// Looks at every active group: whether one stands in mid-update, and how old the newest is.
    pub(crate) fn judge(&self, region: &Region, limits: &Limits) -> Liveness {
        let (mut odd, newest) = look(region, Instant::now());
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for odd in &mut odd {
            let earlier = seen.binary_search_by_key(&odd.place(), Odd::place);
            let earlier = earlier.ok().and_then(|at| seen.get(at));
            if let Some(earlier) = earlier.filter(|earlier| earlier.seq == odd.seq) {
                *odd = Odd { last_seen: odd.last_seen, ..*earlier };
            }
        }
        *seen = odd;
        let longest = seen.iter().max_by_key(|odd| odd.waited());
        if let Some(odd) = longest.filter(|odd| odd.waited() >= limits.stalled_after)
            && newest <= odd.newest_of_all
        {
            return Liveness::Stalled(odd.writer());
        }
        if let (Some(limit), Some(now), Some(newest)) = (limits.stale_after, region.now(), newest) {
            let age = Duration::from_nanos(now.since(newest));
            if age > limit {
                return Liveness::Stale { age };
            }
        }
        Liveness::Live
    }

    /// The records that the last look saw in mid-update for longer than the limit, each once, in order.
    pub(crate) fn stalled(&self, limits: &Limits) -> Vec<StalledRecord> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stalled = seen.iter().filter(|odd| odd.waited() >= limits.stalled_after);
        let mut records: Vec<_> = stalled
            .map(|odd| {
                let Odd { record, index, newest, .. } = *odd;
                StalledRecord { record, index, writer: odd.writer(), newest }
            })
            .collect();
        records.dedup_by_key(|stalled| (stalled.record, stalled.index));
        records
    }

    /// Whether the last look saw a group in mid-update of which it is not known yet whether it is stalled.
    pub(crate) fn is_open(&self, limits: &Limits) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().any(|odd| odd.waited() < limits.stalled_after)
    }
}

/// The groups that are in mid-update, in order of the records, and when the newest of the others was written.
fn look(region: &Region, now: Instant) -> (Vec<Odd>, Option<Ns>) {
    let (mut odd, mut newest): (Vec<Odd>, _) = (Vec::new(), None);
    for kind in RecordKind::ALL {
        let array = region.geometry().array(kind);
        for index in 0..array.nr {
            let Some(mem) = array.offset(index).map(|at| region.sub(at, array.size)) else { break };
            let active = mem.load_u64(kind.active_offset()).unwrap_or(0);
            let (first, mut of_record) = (odd.len(), None);
            for desc in REV.groups(kind).iter().filter(|desc| active & desc.mask() != 0) {
                let Some(group) = mem.group(desc.offset, desc.size) else { continue };
                let seq = group.seq();
                if seq & 1 == 1 && odd.len() < MAX_ODD {
                    let (first_seen, last_seen) = (now, now);
                    let (newest, newest_of_all) = (None, None);
                    odd.push(Odd {
                        record: kind,
                        index,
                        group: desc,
                        seq,
                        first_seen,
                        last_seen,
                        newest,
                        newest_of_all,
                    });
                } else if seq & 1 == 0
                    && let Some(updated) = mem.load_u64(desc.offset + GROUP_UPDATED_NS)
                    // Identity and labels of a domain whose creation is not known: not as of a time.
                    && updated != 0
                {
                    of_record = of_record.max(Some(Ns(updated)));
                }
            }
            newest = newest.max(of_record);
            odd.iter_mut().skip(first).for_each(|odd| odd.newest = of_record);
        }
    }
    odd.iter_mut().for_each(|odd| odd.newest_of_all = newest);
    (odd, newest)
}
