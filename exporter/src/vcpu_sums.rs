//! Sums over the vCPUs of a domain.
//!
//! A sum is a counter, so it never decreases while the region is the same: a slot without a vCPU
//! keeps what its last vCPU added, and what an earlier vCPU of a slot added stays, too.

use domstat_consumer::{Reading, SnapshotRecord};
use domstat_layout::descriptor::Kind;
use domstat_layout::latest::{REV, RunState, Wait};
use domstat_layout::{HistogramGroup, RecordKind};

use crate::families::FAMILIES;
use crate::family::{FieldRef, Origin};
use crate::scrape::{DomainScrape, RUNSTATES};

/// A number of each vCPU that has a sum.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Addend {
    /// Time in a state, up to now.
    Time(RunState),
    /// Time that it was runnable and not running.
    Steal,
    /// A cumulative field.
    Field(FieldRef),
    /// The sum of single waits, and each of their buckets.
    Wait(usize),
}

/// All of them, in the order of a scrape's sums.
pub(crate) fn addends() -> impl Iterator<Item = Addend> {
    let families = FAMILIES.into_iter().flatten();
    let rows = families.filter_map(|family| match family.origin {
        Origin::Vcpu(rows) => Some(rows),
        _ => None,
    });
    let fields = rows.flatten().map(|row| row.field).filter(|f| f.kind() == Some(Kind::Cumulative));
    let times = RUNSTATES.into_iter().map(Addend::Time).chain([Addend::Steal]);
    times.chain(fields.map(Addend::Field))
}

/// Words of the distribution of waits: the sum, and the buckets.
const WAITS: usize = 1 + Wait::NR_BUCKETS;

/// State of a domain's sums between passes.
#[derive(Debug, Default)]
pub(crate) struct VcpuSums {
    slots: Vec<Slot>,
    /// What earlier tenants of all slots added.
    earlier: Vec<u64>,
}

/// A slot's vCPU, or its last one.
#[derive(Debug, Default)]
struct Slot {
    generation: Option<u32>,
    last: Vec<u64>,
}

impl VcpuSums {
    /// Fills the sums of a scrape, in the order of [`addends`]. A sum of which one present vCPU
    /// has no part is absent.
    pub(crate) fn fill(&mut self, scrape: &mut DomainScrape, with_waits: bool) {
        let nr = scrape.snapshot.nr_vcpus();
        self.slots.resize_with(nr as usize, Slot::default);
        let waits = if with_waits { 0..WAITS } else { 0..0 };
        let addends = || addends().chain(waits.clone().map(Addend::Wait));
        let len = addends().count();
        self.earlier.resize(len, 0);
        let mut sums: Vec<Option<u64>> = self.earlier.iter().copied().map(Some).collect();
        let mut present = false;
        for (index, slot) in (0..nr).zip(&mut self.slots) {
            slot.last.resize(len, 0);
            let Some(record) = scrape.snapshot.vcpu(index) else { continue };
            let tenant = Tenant::of(record);
            present |= tenant != Tenant::None;
            if let Tenant::Is(now) = tenant {
                if slot.generation.is_some_and(|before| before != now) {
                    for (earlier, last) in self.earlier.iter_mut().zip(&slot.last) {
                        *earlier = earlier.saturating_add(*last);
                    }
                    for (sum, last) in sums.iter_mut().zip(&mut slot.last) {
                        *sum = sum.map(|sum| sum.saturating_add(std::mem::take(last)));
                    }
                }
                slot.generation = Some(now);
            }
            for ((sum, last), addend) in sums.iter_mut().zip(&mut slot.last).zip(addends()) {
                let part = match tenant {
                    Tenant::None => Some(*last),
                    Tenant::Is(_) | Tenant::Unreadable => addend.of(scrape, record, index),
                };
                *last = part.unwrap_or(*last);
                *sum = sum.zip(part).map(|(sum, part)| sum.saturating_add(part));
            }
        }
        let waits = sums.split_off(len - waits.len());
        scrape.distributions.sum_waits(&waits);
        scrape.sums = if present { sums } else { Vec::new() };
    }
}

/// A slot's vCPU.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tenant {
    /// None: no group is active.
    None,
    /// One, of this generation.
    Is(u32),
    /// Perhaps one: no group can be read.
    Unreadable,
}

impl Tenant {
    fn of(record: SnapshotRecord<'_>) -> Self {
        let mut tenant = Self::None;
        for desc in REV.groups(RecordKind::Vcpu) {
            match record.fields(desc) {
                Ok(Reading::Active(fields)) => return Self::Is(fields.generation),
                Ok(_) => {}
                Err(_) => tenant = Self::Unreadable,
            }
        }
        tenant
    }
}

impl Addend {
    /// The vCPU's part.
    fn of(self, scrape: &DomainScrape, record: SnapshotRecord<'_>, index: u32) -> Option<u64> {
        match self {
            Self::Time(state) => scrape.time_in(index, state),
            Self::Steal => scrape.steal(index),
            Self::Field(field) => scrape.value(record, field),
            Self::Wait(word) => scrape.distributions.wait_word(index, word),
        }
    }
}
