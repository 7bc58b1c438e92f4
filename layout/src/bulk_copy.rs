//! Bulk copies of whole records, header and groups alike, each checked by its sequence numbers.
#![allow(unsafe_code)]

use core::ops::Range;

use crate::copy::{self, CopyWidth};
use crate::descriptor::GroupDesc;
use crate::mem::ReadMem;
use crate::record::RecordKind;
use crate::seqlock::{self, SeqBatch};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Where the records of an array lie, from the start of the memory that they are copied from.
#[derive(Clone, Copy, Debug)]
pub struct RecordArray {
    /// What kind they are.
    pub kind: RecordKind,
    /// Length of a record as the producer was built; a multiple of 8.
    pub size: usize,
    /// Distance between them; a multiple of 8.
    pub stride: usize,
}

/// The groups of a kind of record that are copied with it: all but twins, whose first copies are.
#[derive(Clone, Copy, Debug)]
pub struct CopiedGroups<const N: usize> {
    groups: [&'static GroupDesc; N],
    /// Where each begins and ends, and its bit as a mask: in tables of their own, which are read in a
    /// row.
    offsets: [usize; N],
    ends: [usize; N],
    masks: [u64; N],
    /// Whether there are other groups between them.
    gaps: bool,
}

impl CopiedGroups<0> {
    /// How many of a record's groups are copied: the parameter of [`CopiedGroups::of`].
    #[must_use]
    #[allow(clippy::indexing_slicing, reason = "the index is below the length")]
    pub const fn count(groups: &[&'static GroupDesc]) -> usize {
        let (mut n, mut i) = (0, 0);
        while i < groups.len() {
            if groups[i].twin_of.is_none() {
                n += 1;
            }
            i += 1;
        }
        n
    }
}

impl<const N: usize> CopiedGroups<N> {
    /// Those of a record's groups, which are in order of their bits.
    ///
    /// # Panics
    /// When it is evaluated, if `N` is not [`CopiedGroups::count`].
    #[must_use]
    #[allow(clippy::indexing_slicing, reason = "runs in constant evaluation only")]
    pub const fn of(groups: &[&'static GroupDesc]) -> Self {
        assert!(N == CopiedGroups::count(groups) && N > 0);
        let mut found = [groups[0]; N];
        let (mut offsets, mut ends, mut masks) = ([0; N], [0; N], [0; N]);
        let mut end = groups[0].record.header_len();
        let (mut n, mut i, mut gaps) = (0, 0, false);
        while i < groups.len() {
            let group = groups[i];
            if group.twin_of.is_none() {
                assert!(group.offset >= end, "groups are in order of their places");
                gaps |= group.offset != end;
                end = group.end();
                found[n] = group;
                (offsets[n], ends[n], masks[n]) = (group.offset, end, group.mask());
                n += 1;
            }
            i += 1;
        }
        Self { groups: found, offsets, ends, masks, gaps }
    }

    /// The groups, in order.
    #[must_use]
    pub const fn groups(&self) -> &[&'static GroupDesc; N] {
        &self.groups
    }

    /// How many of them end within `len` bytes of the record: the first ones.
    #[inline(always)]
    #[allow(clippy::indexing_slicing, reason = "there is one at least")]
    fn inside(&self, len: usize) -> usize {
        if self.ends[N - 1] <= len {
            return N;
        }
        self.ends.iter().take_while(|end| **end <= len).count()
    }

    /// Words up to the end of the last of them.
    #[must_use]
    #[allow(clippy::indexing_slicing, reason = "there is one at least")]
    pub const fn words(&self) -> usize {
        self.groups[N - 1].end() / 8
    }
}

impl ReadMem<'_> {
    /// Copies the header and `groups` of each record (raw words) to the same places of a chunk of
    /// `RECORD` words of `to`, as many records as `to` has chunks. A record with an active group
    /// that was not whole, or that lies past the end, is given to `odd` instead, with its index and
    /// its chunk. Words of other groups, and those for which the producer's records are too short,
    /// are left as they were.
    ///
    /// In each record that is not given to `odd`, each of
    /// them whose bit is set in the copied `stats_active`, and that ends inside the producer's
    /// record, is whole, and `generation` is that of all such groups.
    // Inlined, so that the places of all groups are constants where it is called.
    #[inline(always)]
    pub fn copy_records<const RECORD: usize, const GROUPS: usize>(
        self,
        array: RecordArray,
        groups: &'static CopiedGroups<GROUPS>,
        to: &mut [u64],
        odd: impl FnMut(usize, &mut [u64; RECORD]),
    ) {
        match self.form.number() {
            0 => self.copy_records_in::<0, RECORD, GROUPS>(array, groups, to, odd),
            1 => self.copy_records_in::<1, RECORD, GROUPS>(array, groups, to, odd),
            2 => self.copy_records_in::<2, RECORD, GROUPS>(array, groups, to, odd),
            _ => self.copy_records_in::<3, RECORD, GROUPS>(array, groups, to, odd),
        }
    }

    #[inline(always)]
    fn copy_records_in<const FORM: u8, const RECORD: usize, const GROUPS: usize>(
        self,
        array: RecordArray,
        groups: &'static CopiedGroups<GROUPS>,
        to: &mut [u64],
        mut odd: impl FnMut(usize, &mut [u64; RECORD]),
    ) {
        let Some(form) = self.form.numbered::<FORM>() else { return };
        // Records on pages of their own share cache sets, so they are copied few at a time, and
        // the CPU's own prefetcher does not cross pages.
        let apart = array.stride >= 4096;
        let at_once = if apart { 4 } else { 32 };
        let mut first = 0;
        for block in to.as_chunks_mut::<RECORD>().0.chunks_mut(at_once) {
            let records = Records::of(self, array, RECORD, first, block.len());
            let whole = records.is_some_and(|records| {
                if apart {
                    records.prefetch_next();
                }
                records.copy(form, groups, block)
            });
            if !whole {
                for (i, to) in (first..).zip(block.iter_mut()) {
                    let one = Records::of(self, array, RECORD, i, 1);
                    let to_one = core::slice::from_mut(to);
                    if !one.is_some_and(|one| one.copy(form, groups, to_one)) {
                        odd(i, to);
                    }
                }
            }
            first += at_once;
        }
        form.settle(RECORD);
    }
}

/// Some records of an array. Holding one proves that each of them, `words` long, lies inside the
/// memory, and starts at a multiple of 8.
#[derive(Clone, Copy)]
struct Records<'a> {
    mem: ReadMem<'a>,
    kind: RecordKind,
    stride: usize,
    words: usize,
    nr: usize,
}

impl<'a> Records<'a> {
    /// `nr` records from `first` on, at most `at_most` words of each.
    #[inline(always)]
    fn of(
        mem: ReadMem<'a>,
        array: RecordArray,
        at_most: usize,
        first: usize,
        nr: usize,
    ) -> Option<Self> {
        let RecordArray { kind, size, stride } = array;
        let words = at_most.min(size / 8);
        let len = nr.checked_sub(1)?.checked_mul(stride)?.checked_add(words.checked_mul(8)?)?;
        let mem = mem.sub(first.checked_mul(stride)?, len)?;
        let usable = stride.is_multiple_of(8) && words * 8 >= kind.header_len();
        usable.then_some(Self { mem, kind, stride, words, nr })
    }

    /// Each record's first byte.
    #[inline(always)]
    fn starts(self) -> impl Iterator<Item = *mut u8> {
        let base = self.mem.bytes.base.as_ptr();
        (0..self.nr).map(move |i| base.wrapping_add(i * self.stride))
    }

    /// Asks for the records that follow these.
    #[inline(always)]
    fn prefetch_next(self) {
        let ahead = self.stride.wrapping_mul(self.nr);
        for start in self.starts() {
            copy::prefetch(start.wrapping_add(ahead), self.words * 8);
        }
    }

    /// One attempt to copy all of the records; false if an active group of one of them was not
    /// whole.
    #[inline(always)]
    fn copy<const RECORD: usize, const GROUPS: usize>(
        self,
        form: CopyWidth,
        groups: &'static CopiedGroups<GROUPS>,
        to: &mut [[u64; RECORD]],
    ) -> bool {
        let inside = groups.inside(self.words * 8);
        if groups.gaps {
            self.copy_runs(inside, form, groups, to)
        } else if self.words < RECORD || inside < GROUPS {
            self.copy_words::<false, _, _>(self.words, inside, form, groups, to)
        } else {
            // The usual case, with numbers that the compiler knows.
            self.copy_words::<false, _, _>(RECORD, GROUPS, form, groups, to)
        }
    }

    /// As [`Records::copy`], where there are other groups between `groups`. A function of its own,
    /// so as not to be in the way of the usual case.
    #[inline(never)]
    fn copy_runs<const RECORD: usize, const GROUPS: usize>(
        self,
        inside: usize,
        form: CopyWidth,
        groups: &'static CopiedGroups<GROUPS>,
        to: &mut [[u64; RECORD]],
    ) -> bool {
        self.copy_words::<true, _, _>(self.words, inside, form, groups, to)
    }

    #[inline(always)]
    fn copy_words<const GAPS: bool, const RECORD: usize, const GROUPS: usize>(
        self,
        words: usize,
        inside: usize,
        form: CopyWidth,
        groups: &'static CopiedGroups<GROUPS>,
        to: &mut [[u64; RECORD]],
    ) -> bool {
        let CopiedGroups { groups, offsets, masks: of, .. } = groups;
        let active_at = self.kind.active_offset();
        let mut looks = SeqBatch::default();
        for (start, to) in self.starts().zip(to) {
            // SAFETY: the record's first word lies inside memory that `ReadMem` vouches for; it is
            // aligned, and holds two u32 that everyone reaches as such.
            let mut seqs = [unsafe { &*start.cast::<AtomicU32>() }; GROUPS];
            // What lies past the record's end is not looked at; its magic never changes.
            for (seq, offset) in seqs.iter_mut().zip(offsets).take(inside) {
                // SAFETY: inside the record, which lies inside memory that `ReadMem` vouches for;
                // record starts and group offsets are multiples of 8, so aligned; seq is a u32 that
                // everyone reaches as such.
                *seq = unsafe { &*start.wrapping_add(*offset).cast::<AtomicU32>() };
            }
            // SAFETY: the record's words lie inside memory that `ReadMem` vouches for; record
            // starts are multiples of 8, so aligned.
            let from = unsafe { core::slice::from_raw_parts(start.cast::<AtomicU64>(), words) };
            let Some(to) = to.get_mut(..words) else { return false };

            let begins = seqlock::read_begin_each(seqs);
            // ORDERING: relaxed; one of the words that each seq guards.
            let active = from.get(active_at / 8).map_or(0, |word| word.load(Ordering::Relaxed));
            if GAPS {
                for run in runs(self.kind, groups) {
                    let (start, run) = (run.start, run.start..run.end.min(words));
                    if let (Some(from), Some(to)) = (from.get(run.clone()), to.get_mut(run)) {
                        form.load_record(from, self.kind, groups, to, start);
                    }
                }
            } else {
                form.load_record(from, self.kind, groups, to, 0);
            }
            // The copy says what was judged, and is not looked at: reading back a part of what was
            // just stored as a vector would wait for it.
            if let Some(copied) = to.get_mut(active_at / 8) {
                *copied = active;
            }
            let active = u64::from_le(active);
            let mut masks = [0; GROUPS];
            for (mask, of) in masks.iter_mut().zip(of).take(inside) {
                *mask = u32::from(active & of != 0).to_le();
            }
            looks.read_end_each(seqs, begins, masks);
        }
        looks.whole()
    }
}

/// The runs of words that hold the header and `groups`.
fn runs(kind: RecordKind, groups: &[&GroupDesc]) -> impl Iterator<Item = Range<usize>> {
    let mut left = groups.iter().peekable();
    let mut next = Some((0, kind.header_len()));
    core::iter::from_fn(move || {
        let (start, mut end) = next.take()?;
        while let Some(group) = left.next_if(|group| group.offset == end) {
            end = group.end();
        }
        next = left.next().map(|group| (group.offset, group.end()));
        Some(start / 8..end / 8)
    })
}

impl CopyWidth {
    /// Copies words of one record, from its word `first` on. [`CopyWidth::settle`] is called after
    /// the last.
    #[inline(always)]
    fn load_record(
        self,
        from: &[AtomicU64],
        kind: RecordKind,
        groups: &[&GroupDesc],
        to: &mut [u64],
        first: usize,
    ) {
        if self != Self::WORDS {
            return self.load_unsettled(from, to);
        }
        // Each word as what it is: an atomic must be reached in its own width.
        for (i, (from, to)) in from.iter().zip(to).enumerate() {
            let halves = match (first + i) * 8 {
                at if at < kind.header_len() => !kind.is_u64(at),
                at => groups.iter().any(|group| group.offset == at),
            };
            // ORDERING: relaxed; the seqlock around it orders the copy as a whole.
            *to = if halves { load_halves(from) } else { from.load(Ordering::Relaxed) };
        }
    }
}

/// Loads a word that holds two u32.
fn load_halves(word: &AtomicU64) -> u64 {
    let halves = core::ptr::from_ref(word).cast::<[AtomicU32; 2]>();
    // SAFETY: the same eight bytes, aligned for a u32 as well; what lies there is two u32 that
    // everyone reaches as such.
    let halves = unsafe { &*halves };
    // ORDERING: relaxed, as every word that seq guards.
    let [first, second] = halves.each_ref().map(|half| half.load(Ordering::Relaxed).to_ne_bytes());
    let [a, b, c, d] = first;
    let [e, f, g, h] = second;
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests;
