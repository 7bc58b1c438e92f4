//! Groups with a second copy, their twin.
//!
//! Beside a writer that never pauses, a reader of one copy can starve; a reader of two cannot, and
//! when a writer dies in mid-update one copy is whole. The writer finishes the first copy before it
//! begins the second; a reader takes the first and, if that is busy, the second. The two updates
//! are not ordered against each other for a reader on a CPU that reorders loads and stores: it may
//! find both busy for a moment, which is why reading twins is an attempt, too.
//!
//! The order of the steps stands here once, for whatever a copy is made of: shared memory in this
//! crate, and in `tests/loom.rs` the model checker's own memory.

/// An update was in progress, or was made while the copy was taken: try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// The sequence number seen.
    pub seq: u32,
}

/// One of the copies of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwinCopy {
    /// The copy that is written first.
    First,
    /// Its twin.
    Second,
}

/// One copy of a group, for reading.
pub trait ReadCopy {
    /// One attempt to copy the fields: the sequence number, `updated_ns`, and what `guarded`
    /// returned.
    ///
    /// # Errors
    /// [`Busy`] if an update is or was in progress.
    fn try_read<T>(
        &self,
        to: &mut [u64],
        guarded: impl FnOnce() -> T,
    ) -> Result<(u32, u64, T), Busy>;

    /// One attempt to read the field at word `index`, if there is such a word, and what `guarded`
    /// returned.
    ///
    /// # Errors
    /// [`Busy`] if an update is or was in progress.
    fn try_read_word<T>(
        &self,
        index: usize,
        guarded: impl FnOnce() -> T,
    ) -> Result<(Option<u64>, T), Busy>;
}

/// One copy of a group, for its one writer.
pub trait WriteCopy {
    /// Writes `updated_ns` and every field.
    fn write(&mut self, updated_ns: u64, from: &[u64]);
    /// Writes `updated_ns` and the field at word `index`; nothing if there is no such word.
    fn write_word(&mut self, updated_ns: u64, index: usize, raw: u64);
    /// Writes `updated_ns` and the fields at these words, all in one update; nothing if one of them
    /// is not there.
    fn write_words<const N: usize>(&mut self, updated_ns: u64, at: [usize; N], raw: [u64; N]);
    /// What the writer itself wrote last to the fields at these words, if they are there.
    fn own_words<const N: usize>(&self, at: [usize; N]) -> Option<[u64; N]>;
    /// Leaves the copy in mid-update, as it stays while its bit is clear.
    fn suspend(&mut self);
}

/// Where the second copy is found when it is needed, which readers seldom do.
pub trait Second<C>: Copy {
    /// The second copy; `None` for a group that has no twin.
    fn get(self) -> Option<C>;
}

impl<C: Copy> Second<C> for Option<C> {
    fn get(self) -> Self {
        self
    }
}

/// A group: its first copy, and its twin if it has one.
#[derive(Clone, Copy)]
pub struct Twins<C, S> {
    /// The copy that is written first.
    pub first: C,
    /// The copy that is written second, if there is one.
    pub second: S,
}

impl<C: ReadCopy, S: Second<C>> Twins<C, S> {
    /// One attempt to read whichever copy is whole: its sequence number, `updated_ns`, and what
    /// `guarded` returned; `None` if the group is not active.
    ///
    /// `guarded` runs while the copy's `seq` guards what it reads: it returns `None` if the bit of
    /// that copy is clear.
    ///
    /// # Errors
    /// [`Busy`] if the writer was in the first copy, and the second was not whole either.
    #[inline(always)]
    pub fn try_read<T>(
        self,
        to: &mut [u64],
        guarded: impl Fn(TwinCopy) -> Option<T>,
    ) -> Result<Option<(u32, u64, T)>, Busy> {
        match self.try_first(to, &guarded) {
            Ok(found) => Ok(found),
            Err(busy) => try_second(self.second, to, busy, guarded),
        }
    }

    /// The first half of [`Twins::try_read`], which is all that a read takes unless the writer is in
    /// the first copy: for callers that make the whole attempt then, out of line.
    ///
    /// # Errors
    /// [`Busy`] if the writer was in the first copy, or the group is not active.
    #[inline(always)]
    pub fn try_first<T>(
        &self,
        to: &mut [u64],
        guarded: impl Fn(TwinCopy) -> Option<T>,
    ) -> Result<Option<(u32, u64, T)>, Busy> {
        let (seq, updated_ns, guarded) = self.first.try_read(to, || guarded(TwinCopy::First))?;
        Ok(guarded.map(|value| (seq, updated_ns, value)))
    }

    /// As [`Twins::try_read`], for the one word at `index` of the fields.
    ///
    /// # Errors
    /// [`Busy`] if the writer was in the first copy, and the second was not whole either.
    #[inline(always)]
    pub fn try_read_word<T>(
        self,
        index: usize,
        guarded: impl Fn(TwinCopy) -> Option<T>,
    ) -> Result<Option<(u64, T)>, Busy> {
        match self.try_first_word(index, &guarded) {
            Ok(found) => Ok(found),
            Err(busy) => try_second_word(self.second, index, busy, guarded),
        }
    }

    /// As [`Twins::try_first`], for one word.
    ///
    /// # Errors
    /// [`Busy`] if the writer was in the first copy, or the group is not active.
    #[inline(always)]
    pub fn try_first_word<T>(
        &self,
        index: usize,
        guarded: impl Fn(TwinCopy) -> Option<T>,
    ) -> Result<Option<(u64, T)>, Busy> {
        let (word, guarded) = self.first.try_read_word(index, || guarded(TwinCopy::First))?;
        Ok(word.zip(guarded))
    }
}

/// Reads the second copy where the first was busy.
#[cold]
#[inline(never)]
fn try_second<C: ReadCopy, T>(
    second: impl Second<C>,
    to: &mut [u64],
    busy: Busy,
    guarded: impl Fn(TwinCopy) -> Option<T>,
) -> Result<Option<(u32, u64, T)>, Busy> {
    // A group that is not active is left in mid-update: that is not busy.
    if guarded(TwinCopy::First).is_none() {
        return Ok(None);
    }
    match second.get().ok_or(busy)?.try_read(to, || guarded(TwinCopy::Second)) {
        Ok((seq, updated_ns, Some(value))) => Ok(Some((seq, updated_ns, value))),
        // A twin that is not active says nothing about the first copy.
        _ => Err(busy),
    }
}

/// As [`try_second`], for one word.
#[cold]
#[inline(never)]
fn try_second_word<C: ReadCopy, T>(
    second: impl Second<C>,
    index: usize,
    busy: Busy,
    guarded: impl Fn(TwinCopy) -> Option<T>,
) -> Result<Option<(u64, T)>, Busy> {
    if guarded(TwinCopy::First).is_none() {
        return Ok(None);
    }
    match second.get().ok_or(busy)?.try_read_word(index, || guarded(TwinCopy::Second)) {
        Ok((Some(word), Some(value))) => Ok(Some((word, value))),
        _ => Err(busy),
    }
}

impl<C: WriteCopy, S: Second<C>> Twins<C, S> {
    /// Writes both copies, one after the other.
    #[inline(always)]
    pub fn write(&mut self, updated_ns: u64, from: &[u64]) {
        self.first.write(updated_ns, from);
        if let Some(mut second) = self.second.get() {
            second.write(updated_ns, from);
        }
    }

    /// Writes one field of both copies, one after the other.
    #[inline(always)]
    pub fn write_word(&mut self, updated_ns: u64, index: usize, raw: u64) {
        self.first.write_word(updated_ns, index, raw);
        if let Some(mut second) = self.second.get() {
            second.write_word(updated_ns, index, raw);
        }
    }

    /// Makes of some fields what `change` makes of what they are: of each copy in one update, one
    /// copy after the other. Nothing if one of the words is not there.
    #[inline(always)]
    pub fn change<const N: usize>(
        &mut self,
        updated_ns: u64,
        at: [usize; N],
        change: impl FnOnce([u64; N]) -> [u64; N],
    ) {
        let Some(raw) = self.first.own_words(at).map(change) else { return };
        self.first.write_words(updated_ns, at, raw);
        if let Some(mut second) = self.second.get() {
            second.write_words(updated_ns, at, raw);
        }
    }

    /// Leaves both copies in mid-update, one after the other.
    #[inline(always)]
    pub fn suspend(&mut self) {
        self.first.suspend();
        if let Some(mut second) = self.second.get() {
            second.suspend();
        }
    }
}
