//! The rules, one file each.
//!
//! The rules about the header (I03 to I10, I23) state again, on purpose, what
//! [`domstat_layout::Geometry::validate`] enforces. The checker is an independent judge: it reports
//! every word that is wrong where validation stops at the first one, and a mistake in the validation
//! shows as a difference between the two. Share constants with `layout`, never conditions.

use domstat_layout::header::ArrayWords;
use domstat_layout::schema::record;
use domstat_layout::{RecordKind, Rule};

use crate::books::Watch;
use crate::capture::BeyondHeader;
use crate::{Capture, Finding, GroupCopy, Options, Outcome, Subject, WholeGroup};

mod i01_magic_known;
mod i02_record_magic_and_index;
mod i03_dom_size_in_mapping;
mod i04_vcpus_after_dom;
mod i05_stride_holds_record;
mod i06_arrays_in_mapping;
mod i07_record_counts;
mod i08_multiples_of_8;
mod i09_alignment;
mod i10_sections_disjoint;
mod i11_reserved_zero;
mod i12_defined_bits_only;
mod i13_groups_in_record;
mod i14_inactive_bytes_constant;
mod i15_gaps_zero;
mod i16_seq_even_at_rest;
mod i17_words_change_with_seq;
mod i18_header_constant;
mod i19_counters_monotonic;
mod i20_runstate_sums;
mod i21_active_groups_written;
mod i22_values_legal;
mod i23_arch_slots_in_area;
mod i24_sealed_read_only;
mod i25_schema_compatible;
mod i26_vcpus_within_threads;
mod i27_distributions_consistent;
mod i28_queues_within_time;
mod i29_labels_legal;
mod i30_shares_add_up;
mod i31_inactive_groups_odd;
mod i32_twins_active_together;
mod i33_times_measured;

/// The check of a rule of the ABI.
pub struct RuleCheck {
    /// The rule.
    pub rule: Rule,
    /// Where it comes from.
    pub source: &'static str,
    /// The rules that it requires: where one of them does not hold, this one cannot be checked.
    pub requires: &'static [Rule],
    pub(crate) check: fn(&Look<'_>) -> Outcome,
}

/// Input of a rule: the region at this look and, while watching, at the one before.
pub struct Look<'a> {
    /// The region.
    pub subject: &'a Subject<'a>,
    /// Limits.
    pub options: &'a Options,
    /// The watch so far.
    pub(crate) watch: &'a Watch,
    /// The look before this one.
    pub previous: Option<&'a Capture>,
    /// This look.
    pub current: &'a Capture,
}

/// Every rule, in order of their names.
pub const RULES: &[RuleCheck] = &[
    i01_magic_known::RULE,
    i02_record_magic_and_index::RULE,
    i03_dom_size_in_mapping::RULE,
    i04_vcpus_after_dom::RULE,
    i05_stride_holds_record::RULE,
    i06_arrays_in_mapping::RULE,
    i07_record_counts::RULE,
    i08_multiples_of_8::RULE,
    i09_alignment::RULE,
    i10_sections_disjoint::RULE,
    i11_reserved_zero::RULE,
    i12_defined_bits_only::RULE,
    i13_groups_in_record::RULE,
    i14_inactive_bytes_constant::RULE,
    i15_gaps_zero::RULE,
    i16_seq_even_at_rest::RULE,
    i17_words_change_with_seq::RULE,
    i18_header_constant::RULE,
    i19_counters_monotonic::RULE,
    i20_runstate_sums::RULE,
    i21_active_groups_written::RULE,
    i22_values_legal::RULE,
    i23_arch_slots_in_area::RULE,
    i24_sealed_read_only::RULE,
    i25_schema_compatible::RULE,
    i26_vcpus_within_threads::RULE,
    i27_distributions_consistent::RULE,
    i28_queues_within_time::RULE,
    i29_labels_legal::RULE,
    i30_shares_add_up::RULE,
    i31_inactive_groups_odd::RULE,
    i32_twins_active_together::RULE,
    i33_times_measured::RULE,
];

/// The rules that must hold before anything in a record can be judged.
const SHAPE: &[Rule] =
    &[Rule::I03, Rule::I04, Rule::I05, Rule::I06, Rule::I07, Rule::I08, Rule::I23];
/// As [`SHAPE`], and no record lies in another's place.
const SHAPE_AND_SECTIONS: &[Rule] =
    &[Rule::I03, Rule::I04, Rule::I05, Rule::I06, Rule::I07, Rule::I08, Rule::I23, Rule::I10];

/// An array of the region, as header or schema alleges it, with the places and names of its words.
struct AllegedArray {
    kind: RecordKind,
    words: ArrayWords,
    offs: (usize, String),
    size: (usize, String),
    stride: (usize, String),
    nr: (usize, String),
    /// Whether the schema alone announces it.
    beyond_header: bool,
}

/// Every array that header and schema allege.
fn alleged_arrays(capture: &Capture) -> Vec<AllegedArray> {
    let header = capture.header.arrays().map(|(place, words)| {
        let word = |(at, name): (usize, &str)| (at, name.to_owned());
        let (offs, size) = (word(place.offs), word(place.size));
        let (stride, nr) = (word(place.stride), word(place.nr));
        AllegedArray { kind: place.kind, words, offs, size, stride, nr, beyond_header: false }
    });
    let beyond = capture.beyond_header.iter().map(|&BeyondHeader { kind, words, at }| {
        let word =
            |offset: usize, name: &str| (at + offset, format!("schema: {}.{name}", kind.name()));
        AllegedArray {
            kind,
            words,
            offs: word(record::OFFS, "offs"),
            size: word(record::SIZE, "size"),
            stride: word(record::STRIDE, "stride"),
            nr: word(record::NR, "nr"),
            beyond_header: true,
        }
    });
    header.chain(beyond).collect()
}

pub(crate) fn finding(
    rule: Rule,
    offset: usize,
    what: impl Into<String>,
    expected: impl ToString,
    found: impl ToString,
) -> Finding {
    finding_of(rule.id(), offset, what, expected, found)
}

/// As [`finding`], for a rule of any layout.
pub(crate) fn finding_of(
    rule: &'static str,
    offset: usize,
    what: impl Into<String>,
    expected: impl ToString,
    found: impl ToString,
) -> Finding {
    let (what, expected, found) = (what.into(), expected.to_string(), found.to_string());
    Finding { rule, offset: offset as u64, what, expected, found }
}

pub(crate) fn no_watch() -> Outcome {
    Outcome::NotCheckable("needs more than one look: use --watch".to_owned())
}

/// A group that two successive looks saw.
struct Pair<'a> {
    previous: &'a Capture,
    current: &'a Capture,
    before: &'a GroupCopy,
    now: &'a GroupCopy,
}

impl<'a> Pair<'a> {
    /// The group's two copies, if both looks saw it active and at rest.
    fn whole(&self) -> Option<(&'a WholeGroup, &'a WholeGroup)> {
        Some((self.before.whole()?, self.now.whole()?))
    }

    /// The first of the group's raw words that differs: its offset, its old and its new value.
    fn changed_word(&self) -> Option<(usize, u64, u64)> {
        let mut words = (self.now.base()..self.now.base() + self.now.desc.size).step_by(8);
        let at = words.find(|at| self.previous.u64(*at) != self.current.u64(*at))?;
        Some((at, self.previous.u64(at), self.current.u64(at)))
    }
}

/// Outcome of a rule that compares each group with the look before: `judge` adds its findings
/// about one pair. Not checkable at a single look.
fn compare_looks(look: &Look<'_>, mut judge: impl FnMut(&Pair<'_>, &mut Vec<Finding>)) -> Outcome {
    let Some(previous) = look.previous else { return no_watch() };
    let mut findings = Vec::new();
    for pair in pairs(previous, look.current) {
        judge(&pair, &mut findings);
    }
    findings.into()
}

/// Each group that both looks saw.
fn pairs<'a>(previous: &'a Capture, current: &'a Capture) -> impl Iterator<Item = Pair<'a>> {
    // Both lists are in the order of records and groups; a look can leave a group out.
    let mut before = previous.groups.iter().peekable();
    current.groups.iter().filter_map(move |now| {
        let key = |g: &GroupCopy| (g.record.base, g.desc.offset);
        while before.next_if(|b| key(b) < key(now)).is_some() {}
        let before = *before.peek().filter(|b| key(b) == key(now))?;
        Some(Pair { previous, current, before, now })
    })
}
