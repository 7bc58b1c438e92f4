//! Shared memory as atomic words: the only way in which this project touches bytes that another
//! process can see.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::copy::CopyWidth;
use crate::record::{DOM_MAGIC, GROUP_HEADER_LEN, GROUP_UPDATED_NS, GroupSpan, TwinSpans, dom};
use crate::seqlock;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::twins::{Busy, ReadCopy, Second, Twins, WriteCopy};

/// A group and its twin, for reading.
pub type ReadTwins<'a> = Twins<ReadGroup<'a>, SecondCopy<&'a ReadMem<'a>>>;
/// A group and its twin, for their one writer.
pub type WriteTwins<'a> = Twins<WriteGroup<'a>, SecondCopy<WriteMem<'a>>>;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("domstat needs a 64-bit target: relaxed 64-bit loads on read-only pages");

/// A run of shared bytes. Private: what may be done with them differs for readers and writers.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a> {
    pub(crate) base: NonNull<u8>,
    len: usize,
    memory: PhantomData<&'a [AtomicU64]>,
}

// SAFETY: the bytes are only reached through references to atomics, which may be shared between
// threads and used by several at once; `new` has the caller promise that they outlive 'a.
unsafe impl Send for Bytes<'_> {}
// SAFETY: as for Send.
unsafe impl Sync for Bytes<'_> {}

impl<'a> Bytes<'a> {
    #[inline(always)]
    fn sub(self, offset: usize, len: usize) -> Option<Self> {
        let fits = offset.checked_add(len)? <= self.len && offset.is_multiple_of(8);
        if !fits {
            return None;
        }
        // SAFETY: offset <= self.len, so the result stays inside (or one past) the run that the
        // caller of `new` promised.
        let base = unsafe { self.base.add(offset) };
        Some(Self { base, len, memory: PhantomData })
    }

    #[inline(always)]
    fn u32(self, offset: usize) -> Option<&'a AtomicU32> {
        let fits = offset.checked_add(4)? <= self.len && offset.is_multiple_of(4);
        if !fits {
            return None;
        }
        // SAFETY: offset + 4 <= self.len.
        let at = unsafe { self.base.add(offset) };
        // SAFETY: inside the run; base is 8-aligned and offset a multiple of 4, so aligned;
        // AtomicU32 is valid for any bits and may change under a shared reference; the run is
        // valid for 'a and, in this process, only reached through atomics (promise of `new`).
        Some(unsafe { at.cast::<AtomicU32>().as_ref() })
    }

    #[inline(always)]
    fn words(self, offset: usize, n: usize) -> Option<&'a [AtomicU64]> {
        let fits = offset.checked_add(n.checked_mul(8)?)? <= self.len && offset.is_multiple_of(8);
        if !fits {
            return None;
        }
        // SAFETY: offset + 8n <= self.len.
        let at = unsafe { self.base.add(offset) };
        // SAFETY: n words from `at` lie inside the run; base and offset are multiples of 8, so
        // aligned; AtomicU64 is valid for any bits and may change under a shared reference; the
        // run is valid for 'a and, in this process, only reached through atomics.
        Some(unsafe { core::slice::from_raw_parts(at.cast::<AtomicU64>().as_ptr(), n) })
    }

    #[inline(always)]
    fn u64(self, offset: usize) -> Option<&'a AtomicU64> {
        self.words(offset, 1)?.first()
    }
}

/// Shared memory for reading. Cheap to copy; offers loads only, so that it can stand for a
/// read-only mapping.
#[derive(Clone, Copy)]
pub struct ReadMem<'a> {
    pub(crate) bytes: Bytes<'a>,
    pub(crate) form: CopyWidth,
}

impl<'a> ReadMem<'a> {
    /// Takes `len` bytes at `base` as shared memory to read.
    ///
    /// # Safety
    /// For all of `'a`: the bytes are mapped and readable; `base` is a multiple of 8; in this
    /// process they are written through atomics of the same width at the same places or not at
    /// all (other processes may write them as they like); an access to them does not fault, so
    /// the file behind them is at least `len` bytes long.
    #[must_use]
    pub const unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { bytes: Bytes { base, len, memory: PhantomData }, form: CopyWidth::BASELINE }
    }

    /// The same bytes, copied in another form.
    #[must_use]
    pub const fn with_form(self, form: CopyWidth) -> Self {
        Self { form, ..self }
    }

    /// Bytes there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.bytes.len
    }

    /// Whether there are no bytes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.bytes.len == 0
    }

    /// `len` bytes from `offset` on; `None` past the end or if `offset` is no multiple of 8.
    #[inline(always)]
    #[must_use]
    pub fn sub(self, offset: usize, len: usize) -> Option<Self> {
        Some(Self { bytes: self.bytes.sub(offset, len)?, form: self.form })
    }

    /// The u32 at `offset`; `None` past the end or misaligned.
    #[inline(always)]
    #[must_use]
    pub fn load_u32(self, offset: usize) -> Option<u32> {
        // ORDERING: relaxed, the only kind that works on a read-only page; callers that need
        // order add a fence.
        Some(u32::from_le(self.bytes.u32(offset)?.load(Ordering::Relaxed)))
    }

    /// The u32 at `offset`, a word that announces others (`magic`, `state`, `notify`): what was
    /// stored before it is seen afterwards. `None` past the end or misaligned.
    #[must_use]
    pub fn load_published(self, offset: usize) -> Option<u32> {
        Some(seqlock::published(self.bytes.u32(offset)?))
    }

    /// The address of the dom record's `notify` word, for a futex: the kernel alone reads there.
    /// `None` if there is none.
    #[must_use]
    pub fn notify_word(self) -> Option<*const u32> {
        Some(self.bytes.u32(dom::NOTIFY)?.as_ptr().cast_const())
    }

    /// The u64 at `offset`; `None` past the end or misaligned.
    #[inline(always)]
    #[must_use]
    pub fn load_u64(self, offset: usize) -> Option<u64> {
        // ORDERING: relaxed, as for `load_u32`.
        Some(u64::from_le(self.bytes.u64(offset)?.load(Ordering::Relaxed)))
    }

    /// Copies raw words from `offset` on, without any protocol; `None` past the end or misaligned.
    #[must_use]
    pub fn load_words(self, offset: usize, to: &mut [u64]) -> Option<()> {
        self.form.load(self.bytes.words(offset, to.len())?, to);
        Some(())
    }

    /// The group of `size` bytes (header included) at `offset`; `None` past the end or misaligned.
    #[inline(always)]
    #[must_use]
    pub fn group(self, offset: usize, size: usize) -> Option<ReadGroup<'a>> {
        Some(ReadGroup { words: GroupWords::of(self.bytes, offset, size)?, form: self.form })
    }

    /// The group at `spans` of this record; `None` if its first copy lies past the end or is
    /// misaligned. A twin that does is left out.
    #[inline(always)]
    #[must_use]
    pub fn twins(&'a self, spans: TwinSpans) -> Option<ReadTwins<'a>> {
        let TwinSpans { first, second: span } = spans;
        let second = SecondCopy { record: self, span };
        Some(Twins { first: self.group(first.offset, first.size)?, second })
    }
}

/// The twin of a group in a record of shared memory, to be looked for when it is needed.
#[derive(Clone, Copy)]
pub struct SecondCopy<M> {
    record: M,
    span: Option<GroupSpan>,
}

impl<'a> Second<ReadGroup<'a>> for SecondCopy<&'a ReadMem<'a>> {
    #[inline(always)]
    fn get(self) -> Option<ReadGroup<'a>> {
        let span = self.span?;
        self.record.group(span.offset, span.size)
    }
}

impl<'a> Second<WriteGroup<'a>> for SecondCopy<WriteMem<'a>> {
    #[inline(always)]
    fn get(self) -> Option<WriteGroup<'a>> {
        let span = self.span?;
        self.record.group(span.offset, span.size)
    }
}

/// The words of one group: `seq`, and `updated_ns` followed by the fields.
#[derive(Clone, Copy)]
struct GroupWords<'a> {
    seq: &'a AtomicU32,
    updated_ns: &'a AtomicU64,
    payload: &'a [AtomicU64],
}

impl<'a> GroupWords<'a> {
    #[inline(always)]
    fn of(bytes: Bytes<'a>, offset: usize, size: usize) -> Option<Self> {
        let payload_bytes = size.checked_sub(GROUP_HEADER_LEN)?;
        // Its end first: if that is inside, the compiler sees that the rest is.
        let payload = bytes.words(offset.checked_add(GROUP_HEADER_LEN)?, payload_bytes / 8)?;
        let updated_ns = bytes.u64(offset.checked_add(GROUP_UPDATED_NS)?)?;
        Some(Self { seq: bytes.u32(offset)?, updated_ns, payload })
    }
}

/// One group, for reading.
#[derive(Clone, Copy)]
pub struct ReadGroup<'a> {
    words: GroupWords<'a>,
    form: CopyWidth,
}

impl ReadGroup<'_> {
    /// The sequence number now.
    #[inline(always)]
    #[must_use]
    pub fn seq(&self) -> u32 {
        // ORDERING: relaxed; information only.
        u32::from_le(self.words.seq.load(Ordering::Relaxed))
    }

    /// One attempt to copy the fields (raw little-endian words) and to read what else `seq`
    /// guards: returns the sequence number, `updated_ns`, and what `guarded` returned.
    ///
    /// `guarded` runs between the two looks at `seq`; the record's `stats_active` bit and
    /// `generation` are read there, because a writer changes them only while `seq` is odd.
    ///
    /// # Errors
    /// [`Busy`] if an update is or was in progress. `to` then holds no usable value.
    #[inline(always)]
    pub fn try_read<T>(
        &self,
        to: &mut [u64],
        guarded: impl FnOnce() -> T,
    ) -> Result<(u32, u64, T), Busy> {
        let words = &self.words;
        let Some(begin) = seqlock::read_begin(words.seq) else {
            return Err(Busy { seq: self.seq() });
        };
        // ORDERING: relaxed; one of the words that `seq` guards.
        let updated_ns = u64::from_le(words.updated_ns.load(Ordering::Relaxed));
        self.form.load(words.payload, to);
        let guarded = guarded();
        if seqlock::read_retry(words.seq, begin) {
            return Err(Busy { seq: self.seq() });
        }
        Ok((begin, updated_ns, guarded))
    }

    /// As [`ReadGroup::try_read`], for the one word at `index` of the fields.
    ///
    /// # Errors
    /// [`Busy`] if an update is or was in progress.
    #[inline(always)]
    pub fn try_read_word<T>(
        &self,
        index: usize,
        guarded: impl FnOnce() -> T,
    ) -> Result<(Option<u64>, T), Busy> {
        let words = &self.words;
        let Some(begin) = seqlock::read_begin(words.seq) else {
            return Err(Busy { seq: self.seq() });
        };
        // ORDERING: relaxed; one of the words that `seq` guards.
        let word = words.payload.get(index).map(|word| word.load(Ordering::Relaxed));
        let guarded = guarded();
        if seqlock::read_retry(words.seq, begin) {
            return Err(Busy { seq: self.seq() });
        }
        Ok((word, guarded))
    }
}

/// Shared memory for writing, held by the producer alone.
#[derive(Clone, Copy)]
pub struct WriteMem<'a>(Bytes<'a>);

impl<'a> WriteMem<'a> {
    /// Takes `len` bytes at `base` as shared memory to write.
    ///
    /// # Safety
    /// As for [`ReadMem::new`], and the bytes are writable. While `'a` lasts, nothing in this
    /// process reaches them but through atomics.
    #[must_use]
    pub const unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self(Bytes { base, len, memory: PhantomData })
    }

    /// Bytes there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.len
    }

    /// Whether there are no bytes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0.len == 0
    }

    /// The same bytes, for reading.
    #[must_use]
    pub const fn as_read(self) -> ReadMem<'a> {
        ReadMem { bytes: self.0, form: CopyWidth::BASELINE }
    }

    /// `len` bytes from `offset` on; `None` past the end or if `offset` is no multiple of 8.
    #[inline]
    #[must_use]
    pub fn sub(self, offset: usize, len: usize) -> Option<Self> {
        self.0.sub(offset, len).map(Self)
    }

    /// Stores a u32 at `offset`; `None` past the end or misaligned.
    #[must_use]
    pub fn store_u32(self, offset: usize, value: u32) -> Option<()> {
        // These words change on discrete events only, and readers that act on them want to see
        // what was stored before (`state` after the groups it speaks of).
        seqlock::publish(self.0.u32(offset)?, value);
        Some(())
    }

    /// Stores a u64 at `offset`; `None` past the end or misaligned.
    #[must_use]
    pub fn store_u64(self, offset: usize, value: u64) -> Option<()> {
        // ORDERING: release: a reader that sees the bit and then fences sees what was stored before
        // it, the group's odd seq included. Readers of a group do not depend on it, because they
        // look at the bit between their two looks at seq; tools that list what is active do.
        self.0.u64(offset)?.store(value.to_le(), Ordering::Release);
        Some(())
    }

    /// Sets these bits of the u64 at `offset`; others of its bits may change meanwhile. `None` past the
    /// end or misaligned.
    #[must_use]
    pub fn set_bits(self, offset: usize, bits: u64) -> Option<()> {
        // ORDERING: release, as in `store_u64`. A read-modify-write, because each group of a record may
        // have a writer of its own: a store could lose a bit that another set meanwhile.
        self.0.u64(offset)?.fetch_or(bits.to_le(), Ordering::Release);
        Some(())
    }

    /// As [`WriteMem::set_bits`], clears them.
    #[must_use]
    pub fn clear_bits(self, offset: usize, bits: u64) -> Option<()> {
        // ORDERING: as in `set_bits`.
        self.0.u64(offset)?.fetch_and(!bits.to_le(), Ordering::Release);
        Some(())
    }

    /// Bumps the notify word and returns it, for a futex wake-up; `None` if there is none.
    #[must_use]
    pub fn announce(self) -> Option<&'a AtomicU32> {
        let word = self.0.u32(dom::NOTIFY)?;
        seqlock::announce(word);
        Some(word)
    }

    /// Stores zero in every word from `offset` on, `len` bytes; `None` past the end or if
    /// either is no multiple of 8.
    #[must_use]
    pub fn clear(self, offset: usize, len: usize) -> Option<()> {
        if !len.is_multiple_of(8) {
            return None;
        }
        for word in self.0.words(offset, len / 8)? {
            // ORDERING: relaxed; nothing is published yet, `publish` orders it.
            word.store(0, Ordering::Relaxed);
        }
        Some(())
    }

    /// Publishes the region: stores the dom record's magic. Everything else must be in place.
    #[must_use]
    pub fn publish(self) -> Option<()> {
        seqlock::publish(self.0.u32(dom::MAGIC)?, DOM_MAGIC);
        Some(())
    }

    /// The group of `size` bytes (header included) at `offset`; `None` past the end or misaligned.
    #[inline(always)]
    #[must_use]
    pub fn group(self, offset: usize, size: usize) -> Option<WriteGroup<'a>> {
        Some(WriteGroup(GroupWords::of(self.0, offset, size)?))
    }

    /// As [`ReadMem::twins`], for the group's one writer.
    #[inline(always)]
    #[must_use]
    pub fn twins(self, spans: TwinSpans) -> Option<WriteTwins<'a>> {
        let TwinSpans { first, second: span } = spans;
        let second = SecondCopy { record: self, span };
        Some(Twins { first: self.group(first.offset, first.size)?, second })
    }
}

/// One group, for its one writer.
pub struct WriteGroup<'a>(GroupWords<'a>);

impl WriteGroup<'_> {
    /// Writes `updated_ns` and every field (raw little-endian words).
    #[inline(always)]
    pub fn write(&mut self, updated_ns: u64, from: &[u64]) {
        let words = &self.0;
        let odd = seqlock::write_begin(words.seq);
        // ORDERING: relaxed; one of the words that `seq` guards.
        words.updated_ns.store(updated_ns.to_le(), Ordering::Relaxed);
        CopyWidth::BASELINE.store(words.payload, from);
        seqlock::write_end(words.seq, odd);
    }

    /// Writes `updated_ns` and the one field at word `index`; nothing if there is no such word.
    #[inline(always)]
    pub fn write_word(&mut self, updated_ns: u64, index: usize, raw: u64) {
        let words = &self.0;
        let Some(word) = words.payload.get(index) else { return };
        let odd = seqlock::write_begin(words.seq);
        // ORDERING: relaxed; both are words that `seq` guards.
        words.updated_ns.store(updated_ns.to_le(), Ordering::Relaxed);
        // ORDERING: as above.
        word.store(raw, Ordering::Relaxed);
        seqlock::write_end(words.seq, odd);
    }

    /// Writes `updated_ns` and the fields at these words in one update; nothing if one of them is
    /// not there.
    #[inline(always)]
    pub fn write_words<const N: usize>(&mut self, updated_ns: u64, at: [usize; N], raw: [u64; N]) {
        let words = &self.0;
        if at.iter().any(|at| *at >= words.payload.len()) {
            return;
        }
        let odd = seqlock::write_begin(words.seq);
        // ORDERING: relaxed; one of the words that `seq` guards.
        words.updated_ns.store(updated_ns.to_le(), Ordering::Relaxed);
        for (at, raw) in at.into_iter().zip(raw) {
            if let Some(word) = words.payload.get(at) {
                // ORDERING: as above.
                word.store(raw, Ordering::Relaxed);
            }
        }
        seqlock::write_end(words.seq, odd);
    }

    /// The fields at these words as they were written last, if they are there.
    #[inline(always)]
    #[must_use]
    pub fn own_words<const N: usize>(&self, at: [usize; N]) -> Option<[u64; N]> {
        let mut raw = [0; N];
        for (raw, at) in raw.iter_mut().zip(at) {
            // ORDERING: relaxed; there is one writer, so this reads its own last store.
            *raw = self.0.payload.get(at)?.load(Ordering::Relaxed);
        }
        Some(raw)
    }

    /// Leaves the group in mid-update (`seq` odd), as it stays while its bit is clear.
    pub fn suspend(&mut self) {
        // ORDERING: relaxed; there is one writer, so this reads its own last store.
        if u32::from_le(self.0.seq.load(Ordering::Relaxed)) & 1 == 0 {
            seqlock::write_begin(self.0.seq);
        }
    }
}

impl ReadCopy for ReadGroup<'_> {
    #[inline(always)]
    fn try_read<T>(
        &self,
        to: &mut [u64],
        guarded: impl FnOnce() -> T,
    ) -> Result<(u32, u64, T), Busy> {
        Self::try_read(self, to, guarded)
    }
    #[inline(always)]
    fn try_read_word<T>(
        &self,
        index: usize,
        guarded: impl FnOnce() -> T,
    ) -> Result<(Option<u64>, T), Busy> {
        Self::try_read_word(self, index, guarded)
    }
}

impl WriteCopy for WriteGroup<'_> {
    #[inline(always)]
    fn write(&mut self, updated_ns: u64, from: &[u64]) {
        Self::write(self, updated_ns, from);
    }
    #[inline(always)]
    fn write_word(&mut self, updated_ns: u64, index: usize, raw: u64) {
        Self::write_word(self, updated_ns, index, raw);
    }
    #[inline(always)]
    fn write_words<const N: usize>(&mut self, updated_ns: u64, at: [usize; N], raw: [u64; N]) {
        Self::write_words(self, updated_ns, at, raw);
    }
    #[inline(always)]
    fn own_words<const N: usize>(&self, at: [usize; N]) -> Option<[u64; N]> {
        Self::own_words(self, at)
    }
    fn suspend(&mut self) {
        Self::suspend(self);
    }
}
