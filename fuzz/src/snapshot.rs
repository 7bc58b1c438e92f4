//! Reading: whatever is written meanwhile, every call returns; and in peace every way of reading a
//! group gives the same, also from memory that ends where the region does.
#![allow(unsafe_code)]

use std::fs::File;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use domstat_consumer::{Reading, Region, Sample, Snapshot, SnapshotRecord};
use domstat_layout::latest::{
    self, BlkExtent, BlkIo, BlkJob, Exits, Identity, Memory, NetIo, Runstate, Sched,
};
use domstat_layout::{CopyWidth, Group, RecordKind, Schema, Stat};

use crate::IMPATIENT;
use crate::live::{Input, mapped};

/// Records of a kind that are looked at one by one.
const SOME: u32 = 12;

/// The target.
///
/// # Panics
/// When something does not hold.
pub fn target(data: &[u8]) {
    let Some(input) = Input::parse(data) else { return };
    let file = input.while_it_changes(|file| {
        if let Some(region) = attach(file, CopyWidth::widest()) {
            let _ = everything(&region);
        }
    });
    let Some(region) = attach(&file, CopyWidth::widest()) else { return };
    assert_ways_agree(&region);
    let said = everything(&region);
    for form in CopyWidth::all() {
        let other = attach(&file, form).expect("as before");
        assert_eq!(everything(&other), said, "{}", form.name());
    }
    // At addresses where a tool that watches memory accesses sees each byte past the end.
    let region = region.mem();
    let mut words = vec![0u64; region.len() / 8];
    region.load_words(0, &mut words).expect("as many as there are");
    let words: Vec<AtomicU64> = words.into_iter().map(AtomicU64::new).collect();
    let base = NonNull::from(words.as_slice()).cast();
    // SAFETY: the bytes of atomics, which outlive the region and which nobody writes any more.
    let pages = unsafe { Region::from_pages(base, size_of_val(words.as_slice())) };
    // It can be shorter by less than a word.
    if let Ok(pages) = pages {
        assert_eq!(everything(&pages.with_form(CopyWidth::WORDS).with_patience(IMPATIENT)), said);
    }
}

fn attach(file: &File, form: CopyWidth) -> Option<Region> {
    Some(mapped(file)?.attach().ok()?.with_patience(IMPATIENT).with_form(form))
}

/// What reads said, for comparison. What differs from read to read, such as how long was waited, is
/// left out.
#[derive(Debug, Default, PartialEq)]
struct Said(Vec<u64>);

impl Said {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.push(bytes.len() as u64);
        self.0.extend(bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)));
    }

    fn reading<T, E>(
        &mut self,
        reading: Result<Reading<T>, E>,
        mut value: impl FnMut(&mut Self, T),
    ) {
        match reading {
            Ok(Reading::Active(found)) => {
                self.0.push(0);
                value(self, found);
            }
            Ok(Reading::Inactive) => self.0.push(1),
            Ok(Reading::Unknown) => self.0.push(2),
            Err(_) => self.0.push(3),
        }
    }

    fn group<G: Group, E>(&mut self, reading: Result<Reading<Sample<G>>, E>) {
        self.reading(reading, |said, sample| {
            said.0.extend([sample.updated.0, sample.seq.into(), sample.generation.into()]);
            said.bytes(sample.group.as_bytes());
        });
    }
}

/// Reads all there is in every way.
fn everything(region: &Region) -> Said {
    let mut said = Said::default();
    let mut snapshot = Snapshot::new();
    region.snapshot_at(None, &mut snapshot);
    let g = region.geometry();
    for kind in [RecordKind::Dom, RecordKind::Vcpu, RecordKind::Blk, RecordKind::Net] {
        let nr = g.array(kind).nr;
        for index in (0..nr.min(SOME)).chain(nr.checked_sub(1)) {
            let record = match kind {
                RecordKind::Vcpu => snapshot.vcpu(index),
                RecordKind::Blk => snapshot.blk(index),
                RecordKind::Net => snapshot.net(index),
                _ => Some(snapshot.dom()),
            };
            copied(&mut said, kind, &record.expect("a record of the region"));
        }
    }
    typed(&mut said, region);
    described(&mut said, region);
    for blk in region.blks().take(SOME as usize) {
        for len in [0, 8, 40, 64, 72, 200] {
            let mut buffer = vec![0; len];
            said.0.push(u64::from(blk.read_block_stats(&mut buffer).is_ok()));
            said.bytes(&buffer);
        }
    }
    let status = region.status();
    said.0.extend([
        status.notify.into(),
        status.same_incarnation.into(),
        region.header().incarnation,
    ]);
    said
}

fn copied(said: &mut Said, kind: RecordKind, record: &SnapshotRecord<'_>) {
    for desc in latest::REV.groups(kind) {
        said.reading(record.fields(desc), |said, fields| {
            said.0.extend([fields.updated.0, fields.seq.into(), fields.generation.into()]);
            fields.iter().for_each(|(_, bytes)| said.bytes(bytes));
        });
    }
}

fn typed(said: &mut Said, region: &Region) {
    said.group(region.dom().read::<Identity>());
    said.group(region.dom().read::<Memory>());
    for vcpu in region.vcpus().take(SOME as usize) {
        said.group(vcpu.read::<Runstate>());
        said.group(vcpu.read::<Sched>());
        said.group(vcpu.read::<Exits>());
        let alone = vcpu.stat(Runstate::blocked_ns);
        said.0.push(alone.map_or(3, |stat| stat.value().unwrap_or(4)));
    }
    for blk in region.blks().take(SOME as usize) {
        said.group(blk.read::<BlkIo>());
        said.group(blk.read::<BlkExtent>());
        said.group(blk.read::<BlkJob>());
    }
    region.nets().take(SOME as usize).for_each(|net| said.group(net.read::<NetIo>()));
}

/// What the region's own schema describes.
fn described(said: &mut Said, region: &Region) {
    let bytes = region.copy_schema().unwrap_or_default();
    let Ok(schema) = Schema::parse(&bytes) else { return };
    let mut reader = region.schema_reader();
    for group in schema.groups() {
        for record in schema.records().filter(|record| record.kind == group.record) {
            for index in (0..record.nr.min(SOME)).chain([record.nr]) {
                said.reading(reader.read(&record, index, &group), |said, read| {
                    said.0.extend([read.updated.0, read.seq.into(), read.generation.into()]);
                    said.0.extend(read.words);
                });
            }
        }
    }
}

/// In peace, a group from a snapshot says what it says when it is read alone, and a field of it what
/// it says in its group.
fn assert_ways_agree(region: &Region) {
    let mut snapshot = Snapshot::new();
    region.snapshot_at(None, &mut snapshot);
    let agree = |alone: Said, copied: Said, what: &str| assert_eq!(alone, copied, "{what}");
    fn one<G: Group, E>(reading: Result<Reading<Sample<G>>, E>) -> Said {
        let mut said = Said::default();
        said.group(reading);
        said
    }
    let dom = snapshot.dom();
    agree(one(region.dom().read::<Memory>()), one(dom.dom_group::<Memory>()), "memory");
    for vcpu in region.vcpus().take(SOME as usize) {
        let copy = snapshot.vcpu(vcpu.index()).expect("as many as there are");
        agree(one(vcpu.read::<Runstate>()), one(copy.vcpu_group::<Runstate>()), "runstate");
        agree(one(vcpu.read::<Exits>()), one(copy.vcpu_group::<Exits>()), "exits");
        let group = vcpu.read::<Runstate>().map(|group| group.stat(|group| group.blocked_ns));
        let alone: Result<Stat, _> = vcpu.stat(Runstate::blocked_ns);
        assert_eq!(alone.ok(), group.ok());
    }
    for blk in region.blks().take(SOME as usize) {
        let copy = snapshot.blk(blk.index()).expect("as many as there are");
        agree(one(blk.read::<BlkIo>()), one(copy.own().blk_group::<BlkIo>()), "io");
        agree(one(blk.read_summed::<BlkIo>()), one(copy.blk_group::<BlkIo>()), "sum of io");
    }
    for net in region.nets().take(SOME as usize) {
        let copy = snapshot.net(net.index()).expect("as many as there are");
        agree(one(net.read::<NetIo>()), one(copy.own().net_group::<NetIo>()), "io");
        agree(one(net.read_summed::<NetIo>()), one(copy.net_group::<NetIo>()), "sum of io");
    }
}
