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
    /// A group has been in mid-update for longer than [`Limits::stalled_after`]: its writer was
    /// stopped or died there.
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

/// What earlier looks saw in mid-update.
#[derive(Default)]
pub(crate) struct Looks(Mutex<Vec<Odd>>);

/// No more of them are followed: one is enough to say that a writer is stalled.
const MAX_ODD: usize = 64;

#[derive(Clone, Copy)]
struct Odd {
    record: RecordKind,
    index: u32,
    group: &'static GroupDesc,
    seq: u32,
    first_seen: Instant,
}

impl Odd {
    fn is_same(&self, other: &Self) -> bool {
        let place = |odd: &Self| (odd.record, odd.index, odd.group.bit, odd.seq);
        place(self) == place(other)
    }
}

impl Looks {
    /// Looks at every active group: whether one stands in mid-update, and how old the newest is.
    pub(crate) fn judge(&self, region: &Region, limits: &Limits) -> Liveness {
        let now = Instant::now();
        let (mut odd, newest) = look(region, now);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for odd in &mut odd {
            if let Some(earlier) = seen.iter().find(|earlier| earlier.is_same(odd)) {
                odd.first_seen = earlier.first_seen;
            }
        }
        *seen = odd;
        let longest = seen.iter().min_by_key(|odd| odd.first_seen);
        if let Some(odd) = longest.filter(|odd| now - odd.first_seen >= limits.stalled_after) {
            let Odd { record, index, group, seq, first_seen } = *odd;
            let (waited, retries) = (now - first_seen, 0);
            let index = (record != RecordKind::Dom).then_some(index);
            let (record, group) = (Some(record), Some(group.name));
            let writer = StalledWriter { record, index, group, seq, retries, waited };
            return Liveness::Stalled(writer);
        }
        if let (Some(limit), Some(now), Some(newest)) = (limits.stale_after, region.now(), newest) {
            let age = Duration::from_nanos(now.since(newest));
            if age > limit {
                return Liveness::Stale { age };
            }
        }
        Liveness::Live
    }
}

/// The groups that are in mid-update, and when the newest of the others was written.
fn look(region: &Region, now: Instant) -> (Vec<Odd>, Option<Ns>) {
    let (mut odd, mut newest) = (Vec::new(), None);
    for kind in RecordKind::ALL {
        let array = region.geometry().array(kind);
        for index in 0..array.nr {
            let Some(mem) = array.offset(index).map(|at| region.sub(at, array.size)) else { break };
            let active = mem.load_u64(kind.active_offset()).unwrap_or(0);
            for desc in REV.groups(kind).iter().filter(|desc| active & desc.mask() != 0) {
                let Some(group) = mem.group(desc.offset, desc.size) else { continue };
                let seq = group.seq();
                if seq & 1 == 1 && odd.len() < MAX_ODD {
                    odd.push(Odd { record: kind, index, group: desc, seq, first_seen: now });
                } else if seq & 1 == 0
                    && let Some(updated) = mem.load_u64(desc.offset + GROUP_UPDATED_NS)
                {
                    newest = newest.max(Some(Ns(updated)));
                }
            }
        }
    }
    (odd, newest)
}
