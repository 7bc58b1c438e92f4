//! Values that say themselves whether they are whole: every word of a group follows from a number,
//! the time of the write and the group's place, and the groups are written in one order.

use std::time::Instant;

use domstat_consumer::{ReadError, Reading, Region, Sample, Snapshot};
use domstat_layout::latest::{BlkIo, Cpu, Exits, Identity, Memory, Runstate, Sched};
use domstat_layout::{BlkGroup, Clock, DomGroup, Group, Ns, VcpuGroup};
use domstat_producer::{BlkWriter, Created, DomWriter, RegionBuilder, Unpublished, VcpuWriter};
use zerocopy::IntoBytes;

use super::took::{Timer, Took};

/// vCPUs and block devices of the region.
pub const NR_VCPUS: u32 = 3;
/// As [`NR_VCPUS`].
pub const NR_BLKS: u32 = 2;
/// Groups that every round writes, in the order of their ranks: three of each vCPU, one of each
/// block device, two of the domain. Those of `Exits`, `Memory` and `Cpu` have no second copy.
pub const NR_RANKS: usize = 3 * NR_VCPUS as usize + NR_BLKS as usize + 2;

/// The region that the harness publishes.
#[must_use]
pub fn builder() -> RegionBuilder {
    RegionBuilder::new("faults")
        .domid(u64::from(std::process::id()))
        .vcpus(NR_VCPUS)
        .blks(NR_BLKS)
        .clock(Clock::Monotonic)
}

/// Value number `n` of the group of this kind in record `index`, written at `now`.
#[must_use]
pub fn value<G: Group>(index: u32, n: u64, now: Ns) -> G {
    let desc = G::DESC;
    let salt = u64::from(desc.record.number() * 64 + desc.bit) * 1_000_003 + u64::from(index);
    // No group of numbers has more words than this.
    let mut words = [0u64; 16];
    for (i, word) in (0..).zip(&mut words) {
        *word = match i {
            0 => n % 4,
            1 => n,
            2 => (now.0 ^ n ^ salt) >> 1,
            _ => (n.wrapping_mul(2 * i + 3) ^ salt) >> 1,
        }
        .to_le();
    }
    G::read_from_prefix(words.as_bytes()).map_or(G::NOT_PRODUCED, |(group, _)| group)
}

/// The writers of the region.
pub struct Writers {
    dom: DomWriter,
    vcpus: Vec<VcpuWriter>,
    blks: Vec<BlkWriter>,
}

impl Writers {
    /// Takes them over, with the first round written.
    #[must_use]
    pub fn of(created: Created) -> (Unpublished, Self) {
        let Created { unpublished, dom, vcpus, blks, .. } = created;
        let mut writers = Self { dom, vcpus, blks };
        writers.write(1, false);
        (unpublished, writers)
    }

    /// Writes round `n`: every group, in the order of their ranks. `torn`: with the words of two
    /// rounds in one of them, which readers must find.
    pub fn write(&mut self, n: u64, torn: bool) {
        let now = domstat_consumer::clock::now(Clock::Monotonic).unwrap_or(Ns(n));
        for (index, vcpu) in (0..).zip(&mut self.vcpus) {
            let mut runstate = value::<Runstate>(index, n, now);
            if torn {
                runstate.blocked_ns = value::<Runstate>(index, n - 1, now).blocked_ns;
            }
            vcpu.write(&runstate, now);
            vcpu.write(&value::<Sched>(index, n, now), now);
            vcpu.write(&value::<Exits>(index, n, now), now);
        }
        for (index, blk) in (0..).zip(&mut self.blks) {
            blk.write(&value::<BlkIo>(index, n, now), now);
        }
        self.dom.write(&value::<Memory>(0, n, now), now);
        self.dom.write(&value::<Cpu>(0, n, now), now);
    }
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Value `n`, whole, as of `updated`.
    Whole {
        /// The value's number.
        n: u64,
        /// When it was written.
        updated: Ns,
    },
    /// Anything that was never written: torn, mixed, or missing.
    Wrong,
    /// The writer is in mid-update for longer than a reader waits.
    Stalled,
    /// The memory went away under the reader.
    Lost,
}

/// The number of a value.
#[must_use]
pub fn number<G: Group>(group: &G) -> u64 {
    let second = group.as_bytes().get(8..16).and_then(|word| word.try_into().ok());
    second.map_or(0, u64::from_le_bytes)
}

/// What a read of a group of record `index` gave.
pub(super) fn judge<G: Group>(index: u32, reading: Result<Reading<Sample<G>>, ReadError>) -> Found {
    let sample = match reading {
        Ok(Reading::Active(sample)) => sample,
        // Every group is active from the first look on.
        Ok(Reading::Inactive | Reading::Unknown) => return Found::Wrong,
        Err(ReadError::Stalled(_)) => return Found::Stalled,
        Err(ReadError::Truncated(_)) => return Found::Lost,
        Err(_) => return Found::Wrong,
    };
    let bytes = sample.group.as_bytes();
    let n = number(&sample.group);
    let whole = bytes == value::<G>(index, n, sample.updated).as_bytes();
    if whole { Found::Whole { n, updated: sample.updated } } else { Found::Wrong }
}

/// How the groups of a region are read.
pub enum Way<'a> {
    /// Each by itself.
    Direct(&'a Region),
    /// All from one snapshot.
    Snapshot(&'a Region, &'a mut Snapshot),
}

/// What one pass over all groups found, by rank, and how long its longest call took.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Each group's, by rank.
    pub found: [Found; NR_RANKS],
    /// The longest call of the library.
    pub longest: Took,
}

impl Pass {
    /// Reads every group, the one that is written last first: whatever the writer does meanwhile,
    /// no group may then be older than one that was read before it.
    #[must_use]
    pub fn read(mut way: Way<'_>) -> Self {
        let mut pass = Self { found: [Found::Wrong; NR_RANKS], longest: Took::default() };
        let timer = Timer::start();
        if let Way::Snapshot(region, snapshot) = &mut way {
            pass.timed(|| region.snapshot(snapshot));
        }
        let way = &way;
        let mut ranks = (0..NR_RANKS).rev();
        let mut next = || ranks.next().unwrap_or(0);
        pass.dom::<Cpu>(way, next());
        pass.dom::<Memory>(way, next());
        for index in (0..NR_BLKS).rev() {
            pass.blk::<BlkIo>(way, index, next());
        }
        for index in (0..NR_VCPUS).rev() {
            pass.vcpu::<Exits>(way, index, next());
            pass.vcpu::<Sched>(way, index, next());
            pass.vcpu::<Runstate>(way, index, next());
        }
        pass.longest = timer.of(pass.longest.wall);
        pass
    }

    fn timed<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let since = Instant::now();
        let result = call();
        self.longest.wall = self.longest.wall.max(since.elapsed());
        result
    }

    fn set(&mut self, rank: usize, found: Found) {
        if let Some(place) = self.found.get_mut(rank) {
            *place = found;
        }
    }

    fn dom<G: DomGroup>(&mut self, way: &Way<'_>, rank: usize) {
        let reading = self.timed(|| match way {
            Way::Direct(region) => region.dom().read::<G>(),
            Way::Snapshot(_, snapshot) => snapshot.dom().dom_group(),
        });
        self.set(rank, judge(0, reading));
    }

    fn vcpu<G: VcpuGroup>(&mut self, way: &Way<'_>, index: u32, rank: usize) {
        let reading = self.timed(|| match way {
            Way::Direct(region) => region.vcpu(index).map(|vcpu| vcpu.read::<G>()),
            Way::Snapshot(_, snapshot) => snapshot.vcpu(index).map(|vcpu| vcpu.vcpu_group()),
        });
        self.set(rank, reading.map_or(Found::Wrong, |reading| judge(index, reading)));
    }

    fn blk<G: BlkGroup>(&mut self, way: &Way<'_>, index: u32, rank: usize) {
        let reading = self.timed(|| match way {
            Way::Direct(region) => region.blk(index).map(|blk| blk.read::<G>()),
            Way::Snapshot(_, snapshot) => snapshot.blk(index).map(|blk| blk.blk_group()),
        });
        self.set(rank, reading.map_or(Found::Wrong, |reading| judge(index, reading)));
    }

    /// The numbers of the values that came through, with their ranks.
    pub fn numbers(&self) -> impl Iterator<Item = (usize, u64)> {
        let found = self.found.iter().enumerate();
        found.filter_map(|(rank, found)| match found {
            Found::Whole { n, .. } => Some((rank, *n)),
            Found::Wrong | Found::Stalled | Found::Lost => None,
        })
    }

    /// How many groups were found so.
    #[must_use]
    pub fn count(&self, what: Found) -> u64 {
        self.found.iter().filter(|found| **found == what).count() as u64
    }

    /// The newest write that came through.
    #[must_use]
    pub fn newest(&self) -> Option<Ns> {
        let found = self.found.iter();
        found
            .filter_map(
                |f| if let Found::Whole { updated, .. } = f { Some(updated.0) } else { None },
            )
            .max()
            .map(Ns)
    }

    /// Values that are older than one that was written after them: an update was lost. (Not for
    /// snapshots, which copy first what is written first.)
    #[must_use]
    pub fn lost(&self) -> u64 {
        let (mut lost, mut least) = (0, 0);
        for (_, n) in self.numbers().collect::<Vec<_>>().into_iter().rev() {
            lost += u64::from(n < least);
            least = least.max(n);
        }
        lost
    }

    /// What a writer that was killed must not leave behind: an update that is lost, values more
    /// than a round apart, or more than one group in mid-update, or one that has a second copy.
    #[must_use]
    pub fn broken_by_kill(&self) -> u64 {
        let numbers: Vec<u64> = self.numbers().map(|(_, n)| n).collect();
        let (first, last) = (numbers.first().copied(), numbers.last().copied());
        let apart = first.unwrap_or(0).saturating_sub(last.unwrap_or(0));
        let stalled = self.found.iter().enumerate().filter(|(_, f)| **f == Found::Stalled);
        let twin = |rank: usize| {
            let vcpus = 3 * NR_VCPUS as usize;
            rank < vcpus + NR_BLKS as usize && (rank >= vcpus || rank % 3 != 2)
        };
        let (nr_stalled, of_twins) = stalled
            .fold((0u64, 0u64), |(all, of), (rank, _)| (all + 1, of + u64::from(twin(rank))));
        self.lost() + u64::from(apart > 1) + nr_stalled.saturating_sub(1) + of_twins
    }
}

/// The process id that a region's producer wrote into it.
#[must_use]
pub fn producer(region: &Region) -> Option<u64> {
    region.dom().read::<Identity>().ok()?.active()?.domid.value()
}
