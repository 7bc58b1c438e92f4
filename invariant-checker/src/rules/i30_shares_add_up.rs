//! Shares of devices: each is of a device that there is, and together they are no less than the
//! device's own groups, which are their sum as of an earlier moment.

use super::{Look, RuleCheck, finding};
use crate::{Capture, Finding, GroupCopy, Outcome};
use domstat_layout::descriptor::Kind;
use domstat_layout::{RecordKind, Rule, Stat, Word};

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I30, source: "multi-queue devices", requires: &[Rule::I13], check };

/// A share that was given out: which device it is of.
struct Given {
    index: u32,
    device: u32,
    generation: u64,
}

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    for (shares, devices) in [
        (RecordKind::BlkQueue, &[RecordKind::Blk, RecordKind::BlkHist][..]),
        (RecordKind::NetQueue, &[RecordKind::Net][..]),
    ] {
        let given = given(look.current, shares, devices, &mut findings);
        for device in devices {
            add_up(look, shares, *device, &given, &mut findings);
        }
    }
    findings.into()
}

/// The shares that were given out; adds those of devices that there are not.
fn given(
    capture: &Capture,
    shares: RecordKind,
    devices: &[RecordKind],
    findings: &mut Vec<Finding>,
) -> Vec<Given> {
    let nr = devices.first().zip(capture.geometry).map_or(0, |(kind, g)| g.array(*kind).nr);
    let of = capture.groups.iter().filter(|g| g.record.kind == shares && g.desc.name == "of");
    let mut given = Vec::new();
    for group in of {
        let Some(whole) = group.whole() else { continue };
        let word = |i: usize| whole.fields.get(i).map(|raw| Word::from_raw(raw.to_le()).get());
        let device = word(0).and_then(Stat::value).and_then(|n| u32::try_from(n).ok());
        let device = device.filter(|device| *device < nr);
        let generation = word(1).and_then(Stat::value);
        for (i, name, expected, is_good) in [
            (0, "device", format!("below {nr}, the devices there are"), device.is_some()),
            (1, "generation", "a number".to_owned(), generation.is_some()),
        ] {
            let offset = group.base() + 16 + i * 8;
            if let Some(found) = word(i).filter(|_| !is_good) {
                let what = format!("{}.{name}", group.name());
                findings.push(finding(RULE.rule, offset, what, expected, found));
            }
        }
        if let Some((device, generation)) = device.zip(generation) {
            given.push(Given { index: group.record.index, device, generation });
        }
    }
    given
}

/// Compares the groups of devices with the sums of their shares, which are read later.
fn add_up(
    look: &Look<'_>,
    shares: RecordKind,
    devices: RecordKind,
    given: &[Given],
    findings: &mut Vec<Finding>,
) {
    let place = |kind| look.current.geometry.map_or(0, |g| g.array(kind).offs);
    let earlier = match look.previous {
        Some(previous) => previous,
        None if place(devices) < place(shares) => look.current,
        None => return,
    };
    for group in earlier.groups.iter().filter(|group| group.record.kind == devices) {
        let Some(whole) = group.whole() else { continue };
        let parts: Option<Vec<_>> = look
            .current
            .groups
            .iter()
            .filter(|share| {
                let of = given.iter().find(|of| of.index == share.record.index);
                share.record.kind == shares
                    && share.desc.name == group.desc.name
                    && of.is_some_and(|of| {
                        of.device == group.record.index
                            && of.generation == u64::from(whole.generation)
                    })
                    && !matches!(share.look, crate::GroupLook::Inactive { .. })
            })
            .map(GroupCopy::whole)
            .collect();
        // One that is stalled is not read, and a device without shares has no sum.
        let Some(parts) = parts.filter(|parts| !parts.is_empty()) else { continue };
        for field in group.desc.fields.iter().filter(|field| field.kind.never_decreases()) {
            let first = (field.offset - group.desc.offset - 16) / 8;
            for i in first..first + field.width / 8 {
                let word = |fields: &[u64]| fields.get(i).map(|raw| Word::from_raw(raw.to_le()));
                let own = word(&whole.fields).and_then(Word::value);
                let values: Option<Vec<u64>> =
                    parts.iter().map(|part| word(&part.fields)?.value()).collect();
                let Some((own, values)) = own.zip(values) else { continue };
                let sum = match field.kind {
                    Kind::Peak => values.into_iter().max().unwrap_or(0),
                    _ => values.into_iter().fold(0, u64::saturating_add),
                };
                if own > sum {
                    let what = format!("{}.{}", group.name(), field.name);
                    let offset = group.record.base + group.desc.offset + 16 + i * 8;
                    let expected = format!("at most {sum}, the sum of its shares");
                    findings.push(finding(RULE.rule, offset, what, expected, own));
                }
            }
        }
    }
}
