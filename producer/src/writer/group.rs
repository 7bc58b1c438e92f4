//! Writers of one group of a record, where groups of one record have several writers.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domstat_layout::revision::spans;
use domstat_layout::{Field, Group, GroupDesc, Ns, Word};
use zerocopy::FromBytes;

use super::{RecordWriter, with, word_index};
use crate::record::RecordCore;

/// Writes one group of a record that has another writer for the rest: a vCPU's thread its `exits`, while a
/// sampler writes `runstate` and `sched`. `Send`.
///
/// The group stays as it was when this is dropped, and can be taken again.
pub struct GroupWriter<G> {
    record: RecordCore,
    dropped: Arc<AtomicBool>,
    group: PhantomData<fn(G)>,
}

/// A group that was taken out of a record's writer.
pub(super) struct Taken {
    desc: &'static GroupDesc,
    dropped: Arc<AtomicBool>,
}

impl<G: Group> GroupWriter<G> {
    /// Publishes the whole group as of `now` and marks it active.
    #[inline]
    pub fn write(&mut self, group: &G, now: Ns) {
        // Always so: a group is made of aligned words.
        if let Ok(from) = <[u64]>::ref_from_bytes(group.as_bytes()) {
            self.record.write(const { &spans(G::DESC) }, now.0, from);
        }
    }

    /// Updates one field as of `now`. In a group that was not active the others are not produced.
    #[inline]
    pub fn set(&mut self, field: Field<G>, value: impl Into<Word>, now: Ns) {
        let (index, value) = (word_index(field), value.into());
        if self.record.is_active(G::DESC.span()) {
            self.record.write_word(const { spans(G::DESC) }, now.0, index, value.to_raw());
        } else {
            self.write(&with(G::NOT_PRODUCED, index, value), now);
        }
    }

    /// Marks the group as no longer produced.
    pub fn deactivate(&mut self) {
        self.record.deactivate(const { spans(G::DESC) });
    }
}

impl<G> Drop for GroupWriter<G> {
    fn drop(&mut self) {
        // ORDERING: release, pairs with the acquire load in `RecordWriter::take_back_dropped`: who writes
        // the group next sees the last seq.
        self.dropped.store(true, Ordering::Release);
    }
}

impl RecordWriter {
    /// Takes a group out of the record; `None` if it has a writer already.
    pub(super) fn take<G: Group>(&mut self) -> Option<GroupWriter<G>> {
        self.take_back_dropped();
        if self.taken.iter().any(|taken| taken.desc == G::DESC) {
            return None;
        }
        let dropped = Arc::new(AtomicBool::new(false));
        self.taken.push(Taken { desc: G::DESC, dropped: Arc::clone(&dropped) });
        Some(GroupWriter { record: self.record.take(spans(G::DESC)), dropped, group: PhantomData })
    }

    /// Takes back the groups whose writers were dropped; whether all were.
    pub(super) fn take_back_dropped(&mut self) -> bool {
        let Self { taken, record, .. } = self;
        taken.retain(|taken| {
            // ORDERING: acquire, pairs with the release store when the writer was dropped.
            let is_dropped = taken.dropped.load(Ordering::Acquire);
            if is_dropped {
                record.take_back(spans(taken.desc));
            }
            !is_dropped
        });
        taken.is_empty()
    }
}
