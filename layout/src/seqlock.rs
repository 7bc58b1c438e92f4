//! The seqlock protocol over atomic words: the four steps of Linux's `seqlock.h`, and the copies
//! between them.
//!
//! One writer, any number of readers. The writer makes `seq` odd, changes the words, makes `seq`
//! even. A reader copies the words between two looks at `seq` and keeps the copy only if both
//! looks saw the same even number. All accesses to the words are relaxed atomics, so that a copy
//! that is thrown away was no data race either, and readers use nothing stronger than relaxed
//! loads and acquire fences: those are what works on a read-only page.

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// Begins an update: makes `seq` odd and returns it, for [`write_end`].
///
/// A `seq` that is odd already, because the group never was published or a writer died in
/// mid-update, moves on to the next odd number.
#[inline]
pub fn write_begin(seq: &AtomicU32) -> u32 {
    // ORDERING: relaxed; there is one writer, so this reads its own last store.
    let odd = u32::from_le(seq.load(Ordering::Relaxed)).wrapping_add(1) | 1;
    // ORDERING: relaxed; the fence below puts it before the words.
    seq.store(odd.to_le(), Ordering::Relaxed);
    // ORDERING: pairs with the acquire fence in `read_retry`; without it a reader could copy a
    // new word and still see the old even number on its second look.
    fence(Ordering::Release);
    odd
}

/// Ends an update: makes `seq` even.
#[inline]
pub fn write_end(seq: &AtomicU32, odd: u32) {
    // ORDERING: release, pairs with the acquire fence in `read_begin`; without it a reader could
    // see the new even number and copy old words.
    seq.store(odd.wrapping_add(1).to_le(), Ordering::Release);
}

/// First look: the sequence number, or `None` while an update is in progress.
#[inline]
pub fn read_begin(seq: &AtomicU32) -> Option<u32> {
    // ORDERING: relaxed, because acquire loads may fault on a read-only page; the fence below
    // does their work.
    let begin = u32::from_le(seq.load(Ordering::Relaxed));
    // ORDERING: pairs with the release store in `write_end`; without it the words could be
    // copied before this look.
    fence(Ordering::Acquire);
    (begin & 1 == 0).then_some(begin)
}

/// Second look: `true` if the copy made since [`read_begin`] must be thrown away.
#[inline]
pub fn read_retry(seq: &AtomicU32, begin: u32) -> bool {
    // ORDERING: pairs with the release fence in `write_begin`; without it this look could be
    // taken before the words are copied.
    fence(Ordering::Acquire);
    // ORDERING: relaxed; the fence above puts it after the words.
    u32::from_le(seq.load(Ordering::Relaxed)) != begin
}

/// What many pairs of looks saw, judged once for all of them.
#[derive(Clone, Copy, Default)]
pub struct SeqBatch {
    odd: u32,
    changed: u32,
}

/// First looks at several groups at once, for [`SeqBatch::read_end_each`].
#[inline(always)]
pub fn read_begin_each<const N: usize>(seqs: [&AtomicU32; N]) -> [u32; N] {
    // ORDERING: relaxed, as in `read_begin`.
    let begins = seqs.map(|seq| seq.load(Ordering::Relaxed));
    // ORDERING: as in `read_begin`, for each of them.
    fence(Ordering::Acquire);
    begins
}

impl SeqBatch {
    /// Second looks at the same groups.
    #[inline(always)]
    pub fn read_end_each<const N: usize>(
        &mut self,
        seqs: [&AtomicU32; N],
        begins: [u32; N],
        active: [u32; N],
    ) {
        // ORDERING: as in `read_retry`, for each of them.
        fence(Ordering::Acquire);
        for ((seq, begin), active) in seqs.into_iter().zip(begins).zip(active) {
            // ORDERING: relaxed; the fence above puts it after the words.
            self.changed |= seq.load(Ordering::Relaxed) ^ begin;
            self.odd |= begin & active;
        }
    }

    /// Whether every one of the copies made between the looks may be kept.
    #[inline(always)]
    #[must_use]
    pub fn whole(self) -> bool {
        self.changed == 0 && u32::from_le(self.odd) & 1 == 0
    }
}

/// Publishes what was stored before: stores `word` (a magic, a state) where readers wait for it.
#[inline]
pub fn publish(place: &AtomicU32, word: u32) {
    // ORDERING: release, pairs with the acquire fence in `published`; without it a reader could
    // see the word and not what it announces.
    place.store(word.to_le(), Ordering::Release);
}

/// SeqBatch for what [`publish`] stored; whatever was stored before it is seen after this.
#[inline]
pub fn published(place: &AtomicU32) -> u32 {
    // ORDERING: relaxed, because acquire loads may fault on a read-only page.
    let word = u32::from_le(place.load(Ordering::Relaxed));
    // ORDERING: pairs with the release in `publish` and `announce`; without it the words that
    // follow could be read from before they were stored.
    fence(Ordering::Acquire);
    word
}

/// Bumps a notify word: the number of events, which [`published`] reads.
#[inline]
pub fn announce(place: &AtomicU32) {
    // One writer at a time is not asked for here: events come from several threads.
    // ORDERING: relaxed, here and where the exchange fails; a number that is out of date makes the
    // exchange fail and is read again.
    let mut old = place.load(Ordering::Relaxed);
    loop {
        let new = u32::from_le(old).wrapping_add(1).to_le();
        // ORDERING: release, pairs with the acquire fence in `published`; without it a waiter
        // could see the new number and not the event.
        match place.compare_exchange_weak(old, new, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => old = now,
        }
    }
}

/// Copies words out of shared memory, as many as both sides have.
#[inline]
pub fn load_words(from: &[AtomicU64], to: &mut [u64]) {
    for (to, from) in to.iter_mut().zip(from) {
        // ORDERING: relaxed; `read_begin` and `read_retry` order the copy as a whole.
        *to = from.load(Ordering::Relaxed);
    }
}

/// Copies words into shared memory, as many as both sides have.
#[inline]
pub fn store_words(to: &[AtomicU64], from: &[u64]) {
    for (to, from) in to.iter().zip(from) {
        // ORDERING: relaxed; `write_begin` and `write_end` order the copy as a whole.
        to.store(*from, Ordering::Relaxed);
    }
}
