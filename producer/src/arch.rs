//! Arch slots: groups that are described when the region is built.

use std::sync::Arc;

use domstat_layout::descriptor::{GROUP_ALIGN, GROUP_HEADER_LEN};
use domstat_layout::header::RECORD_HEADER_LEN;
use domstat_layout::schema::{
    FieldKind, FieldShape, FieldSpec, GroupSpec, MAX_NAME_LEN, MAX_RECORD_LEN,
};
use domstat_layout::{GroupSpan, Ns, RecordKind, Schema, Word};
use zerocopy::{FromBytes, IntoBytes};

use crate::PlanError;
use crate::pieces::Piece;
use crate::record::RecordCore;

/// The groups of a kind of arch slot, laid out one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct ArchLayout {
    pub(crate) groups: Vec<ArchGroup>,
}

/// One of them; its bit is its position.
#[derive(Clone, Debug)]
pub(crate) struct ArchGroup {
    pub(crate) name: String,
    pub(crate) at: ArchSpan,
    pub(crate) fields: Vec<ArchField>,
}

/// Where it lies in the slot, and how many words its fields have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArchSpan {
    pub(crate) span: GroupSpan,
    words: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct ArchField {
    pub(crate) name: String,
    pub(crate) shape: FieldShape,
    pub(crate) offset: usize,
    pub(crate) width: usize,
}

/// Longest arch slot: with the record that it belongs to it is no longer than readers take.
const MAX_SIZE: usize = MAX_RECORD_LEN / 2;

impl ArchLayout {
    pub(crate) fn new(specs: &[GroupSpec<'_>]) -> Result<Self, PlanError> {
        let described = |why| PlanError::Described { why };
        let named = |name: &str| {
            let legal = (1..=MAX_NAME_LEN).contains(&name.len()) && !name.contains('\0');
            if legal { Ok(name.to_owned()) } else { Err(described("names have 1 to 255 bytes")) }
        };
        if specs.len() > 64 {
            return Err(described("a slot holds at most 64 groups"));
        }
        let mut groups = Vec::new();
        let mut at = RECORD_HEADER_LEN;
        for spec in specs {
            let offset = at;
            at += GROUP_HEADER_LEN;
            let mut fields = Vec::new();
            for FieldSpec { name, shape } in spec.fields {
                let width = FieldSpec { name, shape: *shape }.words() as usize * 8;
                let scaled = matches!(shape.base, 2 | 10) && (-64..=64).contains(&shape.exponent);
                if width == 0 || !scaled || at + width > MAX_SIZE {
                    return Err(described("a field's width or scale is out of range"));
                }
                // In a schema the width alone says how long a text is.
                let nr = if shape.kind == FieldKind::TEXT { 0 } else { shape.nr };
                let shape = FieldShape { nr, ..*shape };
                fields.push(ArchField { name: named(name)?, shape, offset: at, width });
                at += width;
            }
            if fields.is_empty() {
                return Err(described("a group has a field at least"));
            }
            let words = (at - offset - GROUP_HEADER_LEN) / 8;
            at = at.next_multiple_of(GROUP_ALIGN);
            let mask = 1 << groups.len();
            let span = ArchSpan { span: GroupSpan { offset, size: at - offset, mask }, words };
            groups.push(ArchGroup { name: named(spec.name)?, at: span, fields });
        }
        Ok(Self { groups })
    }

    /// Length of the slot; 0 for none.
    pub(crate) fn size(&self) -> usize {
        self.groups.last().map_or(0, |last| last.at.span.offset + last.at.span.size)
    }

    pub(crate) fn spans(&self) -> Arc<[ArchSpan]> {
        self.groups.iter().map(|g| g.at).collect()
    }
}

/// The groups of arch slots of `size` bytes that a schema describes, in order of their bits; `None` if they are not
/// what a producer lays out.
pub(crate) fn spans_of(
    schema: &Schema<'_>,
    kind: RecordKind,
    size: usize,
) -> Option<Arc<[ArchSpan]>> {
    let mut spans = Vec::new();
    let record = schema.records().find(|record| record.kind == kind.number())?;
    let mut groups: Vec<_> = schema.groups_of(&record).collect();
    groups.sort_by_key(|group| group.bit);
    for (bit, group) in (0..64).zip(groups) {
        let end = group.offset.checked_add(group.size)?;
        let is_legal = group.bit == bit
            && group.offset >= RECORD_HEADER_LEN
            && group.offset.is_multiple_of(GROUP_ALIGN)
            && group.size > GROUP_HEADER_LEN
            && end <= size;
        if !is_legal {
            return None;
        }
        let fields = schema.fields(&group).filter_map(|f| f.offset.checked_add(f.width)).max()?;
        let words = fields.checked_sub(group.offset + GROUP_HEADER_LEN)?.div_ceil(8);
        if words > (group.size - GROUP_HEADER_LEN) / 8 {
            return None;
        }
        let span = GroupSpan { offset: group.offset, size: group.size, mask: 1 << bit };
        spans.push(ArchSpan { span, words });
    }
    Some(spans.into())
}

/// Writes one arch slot.
pub(crate) struct ArchWriter {
    record: RecordCore,
    groups: Arc<[ArchSpan]>,
}

impl ArchWriter {
    /// Takes a slot whose header is in place.
    pub(crate) fn new(piece: Piece, kind: RecordKind, groups: Arc<[ArchSpan]>) -> Self {
        let record = RecordCore::new(piece, kind, groups.iter().map(|group| group.span));
        Self { record, groups }
    }

    /// Takes a slot that another process wrote. A group that it left in mid-update is not produced until it is
    /// written again.
    pub(crate) fn adopt(piece: Piece, kind: RecordKind, groups: Arc<[ArchSpan]>) -> Self {
        let mut record = RecordCore::adopt(piece, kind, groups.iter().map(|group| group.span));
        for ArchSpan { span, .. } in groups.iter() {
            let word = record.mem().as_read().load_u32(span.offset).unwrap_or(1);
            if record.is_active(*span) && word & 1 == 1 {
                record.deactivate((*span).into());
            }
        }
        Self { record, groups }
    }

    /// False if there is no such group, or it has another number of words.
    pub(crate) fn write(&mut self, index: usize, words: &[Word], now: Ns) -> bool {
        let group = self.groups.get(index).filter(|group| group.words == words.len());
        let (Some(group), Ok(from)) = (group, <[u64]>::ref_from_bytes(words.as_bytes())) else {
            return false;
        };
        self.record.write(&group.span.into(), now.0, from)
    }

    /// Every group off, and the slot's generation that of its vCPU.
    pub(crate) fn renew(&mut self, generation: u32) {
        for group in self.groups.iter() {
            self.record.deactivate(group.span.into());
        }
        self.record.set_generation(generation);
    }
}
