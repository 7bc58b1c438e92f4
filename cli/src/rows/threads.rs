//! Threads of the host that run a domain's vCPUs, where the region describes them.

use std::ffi::CStr;

use domstat_consumer::{Reading, Region};
use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::schema::{FieldKind, SchemaField, SchemaGroup};
use domstat_layout::{RecordKind, Schema, Word};

use crate::output::printable;

/// The group of an arch slot that has them.
const THREAD: &str = "thread";

/// A thread of the producer's host; what is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Thread {
    /// Its id in the producer's PID namespace.
    pub(crate) id: Option<u64>,
    pub(crate) name: Option<String>,
}

/// The threads by their vCPUs' indices.
#[derive(Debug, Default)]
pub(crate) struct VcpuThreads(Vec<Thread>);

impl VcpuThreads {
    /// Reads them; empty for a region that does not describe them.
    pub(crate) fn of(region: &Region) -> Self {
        Self(read(region).unwrap_or_default())
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Thread> {
        self.0.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Thread> {
        self.0.iter()
    }
}

fn read(region: &Region) -> Option<Vec<Thread>> {
    let bytes = region.copy_schema()?;
    let schema = Schema::parse(&bytes).ok()?;
    let is_vcpu = |kind: u32| kind == RecordKind::ArchVcpu.number();
    let group = schema.groups().find(|g| g.name == THREAD && is_vcpu(g.record))?;
    let record = schema.records().find(|r| r.kind == group.record)?;
    if !record.fits(region.mem().len()) {
        return None;
    }
    let named = |name: &str| schema.fields(&group).find(|field| field.name == name);
    let (id, name) = (named("tid"), named("name"));
    let mut reader = region.schema_reader();
    let mut thread = |index| match reader.read(&record, index, &group) {
        Ok(Reading::Active(sample)) => Thread {
            id: id.and_then(|field| number(&group, &field, sample.words)),
            name: name.and_then(|field| text(&group, &field, sample.words)),
        },
        _ => Thread::default(),
    };
    Some((0..record.nr).map(&mut thread).collect())
}

/// The words of a field among those of its group.
fn of_field<'w>(
    group: &SchemaGroup<'_>,
    field: &SchemaField<'_>,
    words: &'w [u64],
) -> Option<&'w [u64]> {
    let start = field.offset.checked_sub(group.offset.checked_add(GROUP_HEADER_LEN)?)? / 8;
    words.get(start..start.checked_add(field.width / 8)?)
}

fn number(group: &SchemaGroup<'_>, field: &SchemaField<'_>, words: &[u64]) -> Option<u64> {
    match of_field(group, field, words)? {
        [raw] => Word::from_raw(*raw).value(),
        _ => None,
    }
}

fn text(group: &SchemaGroup<'_>, field: &SchemaField<'_>, words: &[u64]) -> Option<String> {
    let words = of_field(group, field, words).filter(|_| field.shape.kind == FieldKind::TEXT)?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    Some(printable(CStr::from_bytes_until_nul(&bytes).ok()?.to_str().ok()?))
}
