//! Judges a recording, rule by rule.

use std::collections::{BTreeMap, BTreeSet};

use domstat_layout::descriptor::Kind;
use domstat_layout::latest::{Identity, Memory, Runstate};
use domstat_layout::{Group, GroupDesc, Ns, Stat, Word};

use super::Violation;
use super::record::{Action, Event, Target, all_words, fields};

/// The kernel reports a thread's beginning in ticks of 10 ms; one more for the rest.
const BEGIN_SLACK_NS: u64 = 20_000_000;

/// What a recording holds.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) dom_writes: u64,
    pub(super) vcpu_writes: u64,
    pub(super) vcpus_written: u32,
    pub(super) device_writes: u64,
    pub(super) deactivations: u64,
    pub(super) renewals: u64,
}

/// What is known of one group of one record.
#[derive(Debug, Default)]
struct History {
    last_now: Option<Ns>,
    /// Largest value so far of each word that never decreases.
    largest: BTreeMap<(&'static str, usize), u64>,
    /// When the vCPU began, from the sum of its times.
    began: Option<u64>,
    /// Which of a runstate's times are produced.
    times: Option<Vec<&'static str>>,
    /// Whether the group was deactivated since the slot was given away.
    deactivated: bool,
}

type Key = (Target, u32);

struct Judge {
    /// When `start` was called.
    called: Ns,
    created: Option<Ns>,
    groups: BTreeMap<Key, History>,
    counts: Counts,
    memory_at_start: bool,
    vcpus: BTreeSet<u32>,
}

/// Judges all that was recorded of a source that was started at `called`.
pub(super) fn judge(
    events: &[Event],
    called: Ns,
    created: Option<Ns>,
) -> Result<Counts, Violation> {
    let mut judge = Judge {
        called,
        created,
        groups: BTreeMap::new(),
        counts: Counts::default(),
        memory_at_start: false,
        vcpus: BTreeSet::new(),
    };
    for event in events {
        judge.event(event)?;
    }
    let at_start = |event: &&Event| !event.started && matches!(event.target, Target::Vcpu(_));
    if events.iter().find(at_start).is_none() {
        return Err(Violation::of(2, "no vCPU was written when start had returned"));
    }
    judge.counts.vcpus_written = u32::try_from(judge.vcpus.len()).unwrap_or(u32::MAX);
    Ok(judge.counts)
}

impl Judge {
    fn event(&mut self, event: &Event) -> Result<(), Violation> {
        let target = event.target;
        match &event.action {
            Action::Renew => {
                self.counts.renewals = self.counts.renewals.saturating_add(1);
                // Points in time stay in order even so.
                for ((at, _), history) in &mut self.groups {
                    if *at == target {
                        *history = History { last_now: history.last_now, ..History::default() };
                    }
                }
                Ok(())
            }
            Action::Deactivate { group } => {
                self.counts.deactivations = self.counts.deactivations.saturating_add(1);
                self.groups.entry((target, group.bit)).or_default().deactivated = true;
                Ok(())
            }
            Action::Write { group, now, words } => self.write(event, group, *now, words),
            Action::Record { group, now } => {
                self.count(event, group)?;
                let history = self.groups.entry((target, group.bit)).or_default();
                history.in_order(event, *now, self.called)?;
                history.last_now = Some(*now);
                Ok(())
            }
        }
    }

    fn write(
        &mut self,
        event: &Event,
        group: &'static GroupDesc,
        now: Ns,
        words: &[Word],
    ) -> Result<(), Violation> {
        if std::ptr::eq(group, Identity::DESC) || group == Identity::DESC {
            return Err(Violation::of(3, format!("{event}: identity is not the source's")));
        }
        self.count(event, group)?;
        let history = self.groups.entry((event.target, group.bit)).or_default();
        history.in_order(event, now, self.called)?;
        history.never_decreases(event, group, words)?;
        says_what_it_knows(event, group, words)?;
        if group == Runstate::DESC && history.all_times(event, words)? {
            let began = began(event, now, words)?;
            let first = history.last_now.is_none();
            if first && event.started && began.saturating_add(BEGIN_SLACK_NS) < self.called.0 {
                let seen = format!("{event}: written late, it had begun before the start");
                return Err(Violation::of(2, seen));
            }
            history.begins_once(event, began, self.created)?;
        }
        history.last_now = Some(now);
        Ok(())
    }

    /// Counts the write; rule 2 for memory.
    fn count(&mut self, event: &Event, group: &GroupDesc) -> Result<(), Violation> {
        match event.target {
            Target::Dom => {}
            Target::Vcpu(index) => {
                self.counts.vcpu_writes = self.counts.vcpu_writes.saturating_add(1);
                self.vcpus.insert(index);
                return Ok(());
            }
            Target::VcpuHist(_) => {
                self.counts.vcpu_writes = self.counts.vcpu_writes.saturating_add(1);
                return Ok(());
            }
            Target::Blk(_) | Target::Net(_) | Target::Share(_) | Target::BlkHist(_) => {
                self.counts.device_writes = self.counts.device_writes.saturating_add(1);
                return Ok(());
            }
        }
        self.counts.dom_writes = self.counts.dom_writes.saturating_add(1);
        self.memory_at_start |= group == Memory::DESC && !event.started;
        if group == Memory::DESC && !self.memory_at_start {
            return Err(Violation::of(2, format!("{event}: not before start had returned")));
        }
        Ok(())
    }
}

impl History {
    /// Rule 4.
    fn in_order(&self, event: &Event, now: Ns, called: Ns) -> Result<(), Violation> {
        if self.last_now.is_some_and(|last| now < last) {
            let last = self.last_now.unwrap_or_default().0;
            return Err(Violation::of(4, format!("{event}: {last} ns came before")));
        }
        if now > event.at || now < called {
            return Err(Violation::of(4, format!("{event}: that is not the clock's time")));
        }
        Ok(())
    }

    /// Rule 5.
    fn never_decreases(
        &mut self,
        event: &Event,
        group: &'static GroupDesc,
        words: &[Word],
    ) -> Result<(), Violation> {
        for (field, index, word) in all_words(group, words) {
            let (true, Some(value)) = (field.kind.never_decreases(), word.value()) else {
                continue;
            };
            let largest = self.largest.entry((field.name, index)).or_insert(value);
            if value < *largest {
                let seen = format!("{event}: {} went from {largest} to {value}", field.name);
                // Without a renewal it would be the same vCPU; with one it is another.
                return Err(Violation::of(if self.deactivated { 8 } else { 5 }, seen));
            }
            *largest = value;
        }
        Ok(())
    }

    /// Whether all four times are there; rule 6: a time that is not produced never is.
    fn all_times(&mut self, event: &Event, words: &[Word]) -> Result<bool, Violation> {
        let produced: Vec<&'static str> = fields(Runstate::DESC, words)
            .filter(|(field, word)| field.kind == Kind::Cumulative && word.value().is_some())
            .map(|(field, _)| field.name)
            .collect();
        let first = self.times.get_or_insert_with(|| produced.clone());
        if *first != produced {
            let seen = format!("{event}: the times {produced:?} are given, before {first:?}");
            return Err(Violation::of(6, seen));
        }
        Ok(produced.len() == 4)
    }

    /// Rule 6, and rule 8 if the slot was free in between.
    fn begins_once(
        &mut self,
        event: &Event,
        began: u64,
        created: Option<Ns>,
    ) -> Result<(), Violation> {
        if created.is_some_and(|created| began < created.0) {
            let seen = format!("{event}: the times sum up from {began} ns, before the creation");
            return Err(Violation::of(6, seen));
        }
        let before = *self.began.get_or_insert(began);
        if before != began {
            let seen =
                format!("{event}: the times sum up from {began} ns, before from {before} ns");
            return Err(Violation::of(if self.deactivated { 8 } else { 6 }, seen));
        }
        Ok(())
    }
}

/// When the vCPU began, if its times are four numbers that fit (rule 6).
fn began(event: &Event, now: Ns, words: &[Word]) -> Result<u64, Violation> {
    let mut sum = 0u64;
    for (field, word) in fields(Runstate::DESC, words) {
        if field.kind != Kind::Cumulative {
            continue;
        }
        let Some(time) = word.value() else {
            return Err(Violation::of(6, format!("{event}: {} is {word}", field.name)));
        };
        sum = sum.saturating_add(time);
    }
    now.0.checked_sub(sum).ok_or_else(|| {
        Violation::of(6, format!("{event}: the times sum to {sum} ns, longer than the clock runs"))
    })
}

/// Rule 7, as far as it shows: a state is one of the named ones, and what is active says something.
fn says_what_it_knows(
    event: &Event,
    group: &'static GroupDesc,
    words: &[Word],
) -> Result<(), Violation> {
    let something = words.iter().any(|word| word.get() != Stat::NotProduced);
    for (field, word) in fields(group, words) {
        if let (Kind::State(names), Some(value)) = (field.kind, word.value())
            && !usize::try_from(value).is_ok_and(|value| value < names.len())
        {
            return Err(Violation::of(7, format!("{event}: {} is {value}", field.name)));
        }
    }
    // Rule 2: a runstate says that the vCPU exists, even if nothing more is known of it.
    if something || *group == *Runstate::DESC {
        Ok(())
    } else {
        Err(Violation::of(7, format!("{event}: active, and no field is produced")))
    }
}
