//! Queues of block devices: busy no longer than time passes, as long as their integral at most, and no
//! more requests completed than were submitted.

use super::{Look, RuleCheck, finding, pairs};
use crate::{Capture, Finding, GroupCopy, Outcome, WholeGroup};
use domstat_layout::r5::{BlkQueue, BlkQueueOf};
use domstat_layout::{Group, RecordKind, Rule, Word};

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I28, source: "iostat", requires: &[Rule::I13], check };

/// The words of a queue, if they are numbers.
struct Queue {
    busy: Option<u64>,
    queued: Option<u64>,
    submitted: Option<u64>,
    completed: Option<u64>,
}

fn queue(whole: &WholeGroup) -> Queue {
    let word = |i: usize| whole.fields.get(i).and_then(|raw| Word::from_raw(raw.to_le()).value());
    Queue { busy: word(0), queued: word(1), submitted: word(2), completed: word(3) }
}

fn is_queue(group: &GroupCopy) -> bool {
    matches!(group.record.kind, RecordKind::Blk | RecordKind::BlkQueue)
        && group.desc.name == BlkQueue::DESC.name
}

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    let has_clock = look.current.header.clock != 0;
    for group in look.current.groups.iter().filter(|group| is_queue(group)) {
        let Some(whole) = group.whole() else { continue };
        let Queue { busy, queued, submitted, completed } = queue(whole);
        let mut at_most = |i: usize, limit: Option<u64>, found: Option<u64>, expected: &str| {
            if let Some((limit, found)) = limit.zip(found).filter(|(limit, found)| found > limit) {
                let expected = format!("at most {limit}, {expected}");
                findings.push(wrong(group, i, expected, found));
            }
        };
        at_most(3, submitted, completed, "as many as were submitted");
        at_most(0, queued, busy, "the integral of the requests in flight");
        // Where times are added up, each writer has its own.
        let writers = shares_of(look.current, group).max(1);
        let passed = has_clock.then(|| whole.updated_ns.saturating_mul(writers));
        at_most(0, passed, busy, "the time of the write");
    }
    if let Some(previous) = look.previous {
        let alone = |group: &GroupCopy| {
            group.record.kind == RecordKind::BlkQueue || shares_of(look.current, group) == 0
        };
        for pair in pairs(previous, look.current) {
            let Some((before, now)) = pair.whole().filter(|_| is_queue(pair.now)) else { continue };
            if before.generation != now.generation || !alone(pair.now) {
                continue;
            }
            let (Some(was), Some(is)) = (queue(before).busy, queue(now).busy) else { continue };
            let most = was.saturating_add(now.updated_ns.saturating_sub(before.updated_ns));
            if is > most {
                let expected = format!("at most {most}, {was} and the time since then");
                findings.push(wrong(pair.now, 0, expected, is));
            }
        }
    }
    findings.into()
}

fn wrong(group: &GroupCopy, index: usize, expected: String, found: u64) -> Finding {
    let field = group.desc.fields.get(index);
    let what = format!("{}.{}", group.name(), field.map_or("", |field| field.name));
    let offset = group.record.base + field.map_or(0, |field| field.offset);
    finding(RULE.rule, offset, what, expected, found)
}

/// How many shares of a block device are given out.
fn shares_of(capture: &Capture, device: &GroupCopy) -> u64 {
    let is_share = |group: &&GroupCopy| {
        let of = group.whole().filter(|_| group.desc == BlkQueueOf::DESC);
        let word = of.and_then(|of| of.fields.first());
        let index = word.and_then(|raw| Word::from_raw(raw.to_le()).value());
        device.record.kind == RecordKind::Blk && index == Some(device.record.index.into())
    };
    capture.groups.iter().filter(is_share).count() as u64
}
