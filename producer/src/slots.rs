//! Slots of a kind of record, claimed for what is plugged in and given back when it is unplugged.

use std::error::Error;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domstat_layout::sink::{BlkSink, NetSink, VcpuSink};
use domstat_layout::{BlkGroup, NetGroup, Ns, VcpuGroup, Word};

/// Writers of the slots of a region, for threads that come and go.
///
/// A thread claims a slot by the name of what it serves, writes, and drops the claim: every group is switched
/// off, and the next tenant has the next `generation`. So a worker that ends late, or is never joined, costs
/// no slot. Clones share the slots.
///
/// ```
/// use domstat_layout::latest::BlkIo;
/// use domstat_layout::{Clock, Ns};
/// use domstat_producer::{RegionBuilder, Slots};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let created = RegionBuilder::new("web1").blks(2).clock(Clock::Monotonic).create_memfd()?;
/// let disks = Slots::new(created.blks);
/// let mut vda = disks.claim("vda")?;
/// vda.set(BlkIo::rd_req, 1, Ns(5));
/// assert_eq!((vda.slot(), disks.free()), (0, 1));
/// drop(vda); // unplugged
/// assert_eq!(disks.claim("vdb")?.generation(), 1);
/// # Ok(())
/// # }
/// ```
pub struct Slots<W: SlotWriter>(Arc<Mutex<Vec<Slot<W>>>>);

impl<W: SlotWriter> Clone for Slots<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Slot<W> {
    /// `None` while it is claimed.
    writer: Option<W>,
    /// Whose it is: of who claimed it, or gave it back to go on with it later.
    tenant: Option<Box<str>>,
    /// Whether nobody has written since the slot was renewed.
    is_fresh: bool,
}

/// A slot that is claimed: its writer. Dropping it switches every group off and gives the slot back.
pub struct Claim<W: SlotWriter> {
    /// `None` only while it is dropped.
    writer: Option<W>,
    slot: usize,
    slots: Slots<W>,
}

/// Why no slot can be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimError {
    /// Something of that name has a slot, whose writer was not dropped yet.
    Held,
    /// Every slot is claimed: create the region with more of them.
    Full,
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "the slot of that name is claimed, and its writer was not dropped yet",
            Self::Full => "every slot is claimed: create the region with more of them",
        })
    }
}

impl Error for ClaimError {}

/// A writer, or the writers of what belongs together, of one slot.
pub trait SlotWriter: sealed::Slot {}
impl<W: sealed::Slot> SlotWriter for W {}

pub(crate) mod sealed {
    /// Records that have one tenant at a time.
    pub trait Slot {
        /// Whether no group is active and no group has a writer of its own.
        fn is_blank(&mut self) -> bool;
        /// Gives the slot to something else; false, and nothing changes, while a group has a writer of its own.
        fn renew_all(&mut self) -> bool;
        /// Switches off every group that has no writer of its own.
        fn clear(&mut self);
    }
}

impl<W: SlotWriter> Slots<W> {
    /// Slots that nobody has claimed, in the order of their records.
    #[must_use]
    pub fn new(writers: Vec<W>) -> Self {
        let slot = |mut writer: W| {
            let is_fresh = writer.is_blank();
            Slot { writer: Some(writer), tenant: None, is_fresh }
        };
        Self(Arc::new(Mutex::new(writers.into_iter().map(slot).collect())))
    }

    /// Claims a slot for the thing called `tenant`: the one that was kept for it, else a free one, else one
    /// that was kept for another.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub fn claim(&self, tenant: &str) -> Result<Claim<W>, ClaimError> {
        let mut slots = self.slots();
        let is_of = |slot: &Slot<W>| slot.tenant.as_deref() == Some(tenant);
        if slots.iter().any(|slot| slot.writer.is_none() && is_of(slot)) {
            return Err(ClaimError::Held);
        }
        let renewed = |slot: &mut Slot<W>| {
            slot.writer.as_mut().is_some_and(|writer| slot.is_fresh || writer.renew_all())
        };
        let mut found = slots.iter().position(is_of);
        for kept in [false, true] {
            found = found.or_else(|| {
                slots.iter_mut().position(|slot| slot.tenant.is_some() == kept && renewed(slot))
            });
        }
        let at = found.ok_or(ClaimError::Full)?;
        let slot = slots.get_mut(at).ok_or(ClaimError::Full)?;
        slot.tenant = Some(tenant.into());
        slot.is_fresh = false;
        Ok(Claim { writer: slot.writer.take(), slot: at, slots: self.clone() })
    }

    /// Slots that can be claimed now by anyone: those that are kept for somebody too.
    #[must_use]
    pub fn free(&self) -> usize {
        self.slots().iter().filter(|slot| slot.writer.is_some()).count()
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot<W>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, at: usize, writer: W, keep: bool, is_fresh: bool) {
        if let Some(slot) = self.slots().get_mut(at) {
            slot.writer = Some(writer);
            slot.is_fresh = is_fresh;
            slot.tenant.take_if(|_| !keep);
        }
    }
}

impl<W: SlotWriter> Claim<W> {
    /// Which slot it is: the record's index.
    #[must_use]
    pub const fn slot(&self) -> usize {
        self.slot
    }

    /// Gives the slot back as it is: the groups stay active, and the next claim of the same name goes on with
    /// them. If no other slot is left, another tenant gets it, renewed.
    pub fn keep(mut self) {
        if let Some(writer) = self.writer.take() {
            self.slots.give_back(self.slot, writer, true, false);
        }
    }
}

impl<W: SlotWriter> Drop for Claim<W> {
    fn drop(&mut self) {
        let Some(mut writer) = self.writer.take() else { return };
        // Groups that were taken out are switched off by their writers, and the slot is renewed when it is
        // claimed after that.
        let is_fresh = writer.renew_all();
        if !is_fresh {
            writer.clear();
        }
        self.slots.give_back(self.slot, writer, false, is_fresh);
    }
}

impl<W: SlotWriter> Deref for Claim<W> {
    type Target = W;
    #[expect(clippy::expect_used, reason = "taken by drop and by keep alone, which own the claim")]
    fn deref(&self) -> &W {
        self.writer.as_ref().expect("a claim has its writer")
    }
}

impl<W: SlotWriter> DerefMut for Claim<W> {
    #[expect(clippy::expect_used, reason = "taken by drop and by keep alone, which own the claim")]
    fn deref_mut(&mut self) -> &mut W {
        self.writer.as_mut().expect("a claim has its writer")
    }
}

impl<W: SlotWriter + VcpuSink> VcpuSink for Claim<W> {
    fn write<G: VcpuGroup>(&mut self, group: &G, now: Ns) {
        VcpuSink::write(&mut **self, group, now);
    }
    fn deactivate<G: VcpuGroup>(&mut self) {
        VcpuSink::deactivate::<G>(&mut **self);
    }
    fn write_arch(&mut self, index: usize, words: &[Word], now: Ns) {
        VcpuSink::write_arch(&mut **self, index, words, now);
    }
    fn renew(&mut self) {
        VcpuSink::renew(&mut **self);
    }
}

impl<W: SlotWriter + BlkSink> BlkSink for Claim<W> {
    fn write<G: BlkGroup>(&mut self, group: &G, now: Ns) {
        BlkSink::write(&mut **self, group, now);
    }
    fn deactivate<G: BlkGroup>(&mut self) {
        BlkSink::deactivate::<G>(&mut **self);
    }
    fn renew(&mut self) {
        BlkSink::renew(&mut **self);
    }
}

impl<W: SlotWriter + NetSink> NetSink for Claim<W> {
    fn write<G: NetGroup>(&mut self, group: &G, now: Ns) {
        NetSink::write(&mut **self, group, now);
    }
    fn deactivate<G: NetGroup>(&mut self) {
        NetSink::deactivate::<G>(&mut **self);
    }
    fn renew(&mut self) {
        NetSink::renew(&mut **self);
    }
}
