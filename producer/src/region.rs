//! A region's life: unpublished, live, retired.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use domstat_layout::header::{DOM_HEADER_LEN, dom};
use domstat_layout::{Geometry, State};
use rustix::fs::SealFlags;
use rustix::thread::futex;

use crate::announce::EntryPath;
use crate::frame::FrameFiles;
use crate::pieces::Piece;
#[cfg(feature = "file")]
use crate::region_file::RegionFile;
use crate::{
    AnnounceError, Announcement, CreateError, Frame, FrameWriters, HandOverError, Plan,
    RegionTruncated,
};

/// Where a region's bytes are.
pub(crate) enum Storage {
    Memfd(OwnedFd),
    Frames(FrameFiles),
    #[cfg(feature = "file")]
    File(RegionFile),
    Caller,
}

/// A region that consumers cannot see yet. Dropping it leaves nothing behind.
pub struct Unpublished {
    dom: Piece,
    storage: Storage,
    plan: Plan,
    incarnation: u64,
    continues: bool,
}

impl Unpublished {
    pub(crate) fn new(dom: Piece, storage: Storage, plan: Plan, incarnation: u64) -> Self {
        Self { dom, storage, plan, incarnation, continues: false }
    }

    /// Whether it goes on with a region of an earlier process
    /// ([`crate::RegionBuilder::continue_memfd`]).
    #[must_use]
    pub const fn continues(&self) -> bool {
        self.continues
    }

    /// The dom record's header as it stands.
    pub(crate) fn header_bytes(&self) -> Vec<u8> {
        let mem = self.dom.mem().as_read();
        let word = |at| mem.load_u32(at).unwrap_or(0).to_le_bytes();
        (0..DOM_HEADER_LEN).step_by(4).flat_map(word).collect()
    }

    /// What tells the region from others of the domain.
    #[must_use]
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Goes on with the region of this incarnation, which announced so many events.
    pub(crate) fn take_over(&mut self, incarnation: u64, notify: u32) {
        let mem = self.dom.mem();
        // Always inside: both are words of the header.
        let _ = mem.store_u64(dom::INCARNATION, incarnation);
        let _ = mem.store_u32(dom::NOTIFY, notify.wrapping_add(1));
        (self.incarnation, self.continues) = (incarnation, true);
    }

    /// Hands a record to another process, which from here on is its only writer: consumes its writers, and
    /// returns what that process needs to make them again ([`FrameWriters::from_frame`]). What was written here
    /// stays in the record. Where a record's frame holds its distributions, too, their writers go with it, as a pair.
    ///
    /// Publish when every process has mapped what it was handed: publishing seals the memory, and what is sealed
    /// cannot be mapped writable any more. The process can harm its own record and no other; who gets the
    /// dom record gets the region's header.
    ///
    /// # Errors
    /// [`HandOverError`]; the writers are dropped, [`Unpublished::take_back`] does not have them.
    pub fn hand_over<W: FrameWriters>(&mut self, writers: W) -> Result<Frame, HandOverError> {
        match &mut self.storage {
            Storage::Frames(files) => files.hand_over(writers),
            _ => Err(HandOverError::NotInFrames),
        }
    }

    /// As [`Region::take_back`], before the region is published.
    ///
    /// # Errors
    /// [`HandOverError`].
    pub fn take_back<W: FrameWriters>(&mut self, index: u32) -> Result<W, HandOverError> {
        match &mut self.storage {
            Storage::Frames(files) => files.take_back(index),
            _ => Err(HandOverError::NotInFrames),
        }
    }

    /// Makes the region visible: seals a memfd, stores `state` and then `magic`, and puts a file
    /// in its place.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left behind.
    pub fn publish(self) -> Result<Region, CreateError> {
        let Self { dom, storage, plan, incarnation, .. } = self;
        let os = |action: &str| {
            let action = action.to_owned();
            move |e: rustix::io::Errno| CreateError::Os { action, source: e.into() }
        };
        // What a consumer could still do to a memfd that it is given: nothing.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
        match &storage {
            Storage::Memfd(fd) => {
                rustix::fs::fcntl_add_seals(fd, seals).map_err(os("seal the memfd"))?
            }
            Storage::Frames(files) => files.seal()?,
            #[cfg(feature = "file")]
            Storage::File(_) => {}
            Storage::Caller => {}
        }
        let mem = dom.mem();
        let visible = || {
            mem.store_u32(dom::STATE, State::Live as u32)?;
            mem.publish()
        };
        visible().ok_or(CreateError::Pages {
            what: "the dom record".into(),
            found: mem.len(),
            expected: domstat_layout::header::DOM_HEADER_LEN,
        })?;
        #[cfg_attr(not(feature = "file"), expect(unused_mut))]
        let mut region = Region { dom, storage, plan, incarnation, retired: false };
        #[cfg(feature = "file")]
        if let Storage::File(file) = &mut region.storage {
            file.publish()?;
        }
        Ok(region)
    }
}

/// A live region. [`retire`](Region::retire) it when the domain has ended; dropping it retires it
/// too, so that no consumer takes old values for live ones.
pub struct Region {
    dom: Piece,
    storage: Storage,
    plan: Plan,
    incarnation: u64,
    retired: bool,
}

impl Region {
    /// Checks that what is written still reaches consumers: a plain file can be truncated by
    /// any process that can write it, and then nothing does any more. One system call for a file, none
    /// otherwise; call it now and then.
    ///
    /// # Errors
    /// [`RegionTruncated`]; publish the domain again.
    pub fn check(&self) -> Result<(), RegionTruncated> {
        match &self.storage {
            #[cfg(feature = "file")]
            Storage::File(file) => file.check(self.len() as u64),
            _ => Ok(()),
        }
    }

    /// Reports that the domain has ended: `state` becomes retired, waiters are woken, a file is
    /// removed. Mappings that consumers hold stay valid.
    pub fn retire(mut self) {
        self.retire_once();
    }

    /// Ends writing without a word, as a process does that is to be started again and goes on with
    /// the region: it stays live.
    pub fn leave(mut self) {
        self.retired = true;
    }

    /// What retires the region where its owner cannot be reached, as in a VMM that leaves by `_exit`.
    #[must_use]
    pub fn retirer(&self) -> Retirer {
        Retirer { dom: self.dom.clone(), entry: None }
    }

    pub(crate) fn retire_once(&mut self) {
        if self.retired {
            return;
        }
        self.retired = true;
        retire(&self.dom);
        #[cfg(feature = "file")]
        if let Storage::File(file) = &self.storage {
            file.remove();
        }
    }

    /// Bumps the notify word and wakes who waits for it. For discrete events only: it is a system
    /// call, and costs the caller a third of a microsecond even if nobody waits.
    pub fn notify(&self) {
        notify(&self.dom);
    }

    /// The memfd that holds the region, to hand to consumers; `None` unless it is one memfd.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.storage {
            Storage::Memfd(fd) => Some(fd.as_fd()),
            _ => None,
        }
    }

    /// The memfds that hold the region if each record has its own, in the order of the region: the dom
    /// record's, then one for each record of every array, then the schema's. Empty otherwise.
    #[must_use]
    pub fn frame_fds(&self) -> Vec<BorrowedFd<'_>> {
        match &self.storage {
            Storage::Frames(files) => files.fds(),
            _ => Vec::new(),
        }
    }

    /// Takes back record `index` that was handed to another process, after that has exited: this process has the
    /// memory mapped, and goes on with it. What was left in mid-update is made whole: of a group with a twin
    /// the write before it, of one without its counters; other words are not produced until they are written
    /// again. [`last`](crate::BlkWriter::last) has the values.
    ///
    /// Counters go on, with the same generation. If something else is in the slot from here on,
    /// [`renew`](crate::BlkWriter::renew) it. The share of a device stays for as long as the device does: leave it as it is, or hand
    /// it to the next process, which goes on from it.
    ///
    /// # Errors
    /// [`HandOverError`], for example if the record was not handed out.
    pub fn take_back<W: FrameWriters>(&mut self, index: u32) -> Result<W, HandOverError> {
        match &mut self.storage {
            Storage::Frames(files) => files.take_back(index),
            _ => Err(HandOverError::NotInFrames),
        }
    }

    /// Hands a record to another process, as [`Unpublished::hand_over`] does, in new memory, since sealed
    /// memory cannot be mapped writable again. When the process has mapped it, call [`Region::replace_frames`].
    /// Until then consumers see the record as its writers leave it here.
    ///
    /// # Errors
    /// [`HandOverError`]; the writers are dropped, and so the record is not written any more.
    pub fn hand_over<W: FrameWriters>(&mut self, writers: W) -> Result<Frame, HandOverError> {
        match &mut self.storage {
            Storage::Frames(files) => files.hand_over_anew(writers),
            _ => Err(HandOverError::NotInFrames),
        }
    }

    /// Seals the memory of the records that were handed over since the region was published, puts it in the
    /// place of the old, and notifies. Returns how many there are. Consumers that attach from here on get the new
    /// memory, once [`Served::update`](crate::Served::update) was called; those that are attached see the record as
    /// stalled, and reattach.
    ///
    /// # Errors
    /// [`CreateError::Frame`] if a process did to its frame what it must not: take the record back. Frames before
    /// it are replaced.
    pub fn replace_frames(&mut self) -> Result<usize, CreateError> {
        let Storage::Frames(files) = &mut self.storage else { return Ok(0) };
        let replaced = files.replace();
        self.notify();
        replaced
    }

    /// Bytes of the whole region: whole pages.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.plan.total_len()
    }

    /// Never: a region holds at least a dom record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the records lie.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.plan.geometry()
    }

    /// The number that tells this region from an earlier one of the same name.
    #[must_use]
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Makes the region known as `name` in the directory `dir`, for as long as the result lives.
    ///
    /// The entry is a link to this process's descriptor, so it dangles as soon as the producer
    /// has exited, however it ended. In a jail, whose processes have other numbers than for
    /// consumers, the launcher makes it ([`Announcement::of_process`]).
    ///
    /// # Errors
    /// [`AnnounceError`], for example if a live region has the name.
    pub fn announce(&self, dir: &Path, name: &str) -> Result<Announcement, AnnounceError> {
        let fd = self.as_fd().ok_or(AnnounceError::NoDescriptor)?;
        Announcement::of_own(dir, name, fd)
    }
}

/// Retires a region from anywhere: [`Region::retirer`], [`crate::Published::retirer`]. `Send` and `Sync`.
#[derive(Clone)]
pub struct Retirer {
    dom: Piece,
    entry: Option<EntryPath>,
}

impl Retirer {
    /// Reports that the domain has ended, wakes who waits, and removes the entry of a [`crate::Published`].
    /// Async-signal-safe: two stores and a system call, and two more (`readlinkat`, `unlinkat`) for an entry. That
    /// of a [`Region`] stays, and dangles once the process has exited; a region in a file is not removed.
    pub fn retire(&self) {
        retire(&self.dom);
        if let Some(entry) = &self.entry {
            entry.remove();
        }
    }

    pub(crate) fn with_entry(mut self, entry: &Announcement) -> Self {
        self.entry = entry.entry_path();
        self
    }
}

fn retire(dom: &Piece) {
    let _ = dom.mem().store_u32(dom::STATE, State::Retired as u32);
    notify(dom);
}

fn notify(dom: &Piece) {
    if let Some(word) = dom.mem().announce() {
        let _ = futex::wake(word, futex::Flags::empty(), i32::MAX.unsigned_abs());
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.retire_once();
    }
}
