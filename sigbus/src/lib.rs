//! SIGBUS handler for truncated files, for readers and writers of mappings.
//!
//! An access to a page that lies past the end of its file raises SIGBUS, as does one that finds no
//! room on a full filesystem, or bad memory. The handler here looks whether the address lies in a
//! mapping that was registered. If so it notes that the mapping is lost and maps zeros over all
//! of it, and the access is made again: a load yields zero, a store goes to private memory, and
//! the thread checks afterwards whether the mapping was lost ([`Guard::is_lost`]). Every other
//! SIGBUS goes to the handler that was installed before.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::mm::{MapFlags, ProtFlags};

/// A registered range of addresses. Slots are never freed, but used again, so that the handler can
/// walk them at any time; there are as many as ranges were registered at one time.
struct Slot {
    /// Odd while `base` and `len` change.
    seq: AtomicUsize,
    base: AtomicUsize,
    /// 0 while the slot is not in use.
    len: AtomicUsize,
    lost: AtomicBool,
    /// Whether the zeros have to be writable.
    writable: AtomicBool,
    next: AtomicPtr<Slot>,
}

static SLOTS: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut());
/// Slots that nobody uses. The handler never looks here.
static FREE: Mutex<Vec<&'static Slot>> = Mutex::new(Vec::new());

/// How a mapping is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// By loads.
    Read,
    /// By loads and stores.
    ReadWrite,
}

/// The registration of one mapping; ends with it. It has to end before the mapping does.
pub struct Guard(&'static Slot);

impl Guard {
    /// Registers the `len` bytes at `base`, a mapping of the caller's.
    ///
    /// # Safety
    /// The range starts and ends at page boundaries and is mapped. Until the guard is dropped it
    /// belongs to the caller alone, who reaches it through atomics only and can do with zeros in
    /// its place at any time.
    ///
    /// # Errors
    /// What the operating system says when the handler cannot be installed.
    pub unsafe fn register(base: NonNull<u8>, len: usize, access: Access) -> io::Result<Self> {
        install()?;
        let slot = free_slot();
        // ORDERING: relaxed; the release that ends `set` puts it before the range is seen.
        slot.lost.store(false, Ordering::Relaxed);
        // ORDERING: as above.
        slot.writable.store(access == Access::ReadWrite, Ordering::Relaxed);
        slot.set(base.as_ptr().addr(), len);
        Ok(Self(slot))
    }

    /// Whether an access to the mapping failed since it was registered.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        // ORDERING: acquire, pairs with the release in `on_sigbus`. It was this thread, or one that
        // mapped the zeros which this thread has read, that stored the flag before.
        self.0.lost.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(0, 0);
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
    }
}

impl Slot {
    /// Changes the range; only the owner of the slot does.
    fn set(&self, base: usize, len: usize) {
        // ORDERING: a seqlock whose reader is the handler, as `domstat_layout::seqlock`.
        let odd = self.seq.load(Ordering::Relaxed).wrapping_add(1);
        self.seq.store(odd, Ordering::Relaxed);
        fence(Ordering::Release);
        self.base.store(base, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
        self.seq.store(odd.wrapping_add(1), Ordering::Release);
    }

    /// The range, if `address` lies in it. A slot that is being changed is not that of a mapping
    /// which is being read, so it is passed over.
    fn range_of(&self, address: usize) -> Option<(usize, usize)> {
        // ORDERING: the reader's side of the seqlock in `set`.
        let begin = self.seq.load(Ordering::Acquire);
        let (base, len) = (self.base.load(Ordering::Relaxed), self.len.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let whole = begin & 1 == 0 && self.seq.load(Ordering::Relaxed) == begin;
        let inside = address.checked_sub(base).is_some_and(|offset| offset < len);
        (whole && inside).then_some((base, len))
    }
}

fn slots() -> impl Iterator<Item = &'static Slot> {
    // ORDERING: acquire, pairs with the release in `free_slot`: a slot is whole before it is seen.
    let mut next = SLOTS.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: null, or a slot that `free_slot` leaked: valid for ever.
        let slot = unsafe { next.as_ref::<'static>() }?;
        next = slot.next.load(Ordering::Acquire);
        Some(slot)
    })
}

/// A slot that nobody uses, now the caller's.
fn free_slot() -> &'static Slot {
    if let Some(slot) = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop() {
        return slot;
    }
    let slot = Box::leak(Box::new(Slot {
        seq: AtomicUsize::new(0),
        base: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
        writable: AtomicBool::new(false),
        next: AtomicPtr::new(ptr::null_mut()),
    }));
    // ORDERING: relaxed, here and below where the exchange fails: a head that is out of date makes it
    // fail. A thread that sees the slot sees `next`.
    let mut first = SLOTS.load(Ordering::Relaxed);
    loop {
        slot.next.store(first, Ordering::Relaxed);
        // ORDERING: release, pairs with the acquire in `slots`.
        match SLOTS.compare_exchange_weak(first, slot, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return slot,
            Err(now) => first = now,
        }
    }
}

/// Who handled SIGBUS before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Installs the handler, once in the life of the process.
fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Option<i32>> = OnceLock::new();
    let error = INSTALLED.get_or_init(|| {
        let os = || io::Error::last_os_error().raw_os_error();
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: no new action is given, and there is room for the present one.
        if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), before.as_mut_ptr()) } != 0 {
            return os();
        }
        // SAFETY: all zeros are a valid sigaction, and the call above filled it in.
        let before = *BEFORE.get_or_init(|| unsafe { before.assume_init() });
        let mut ours = before;
        ours.sa_sigaction = on_sigbus as *const () as usize;
        // On the alternate stack, if the thread has one: the earlier handler may need it.
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: `on_sigbus` has the signature that SA_SIGINFO asks for, and does only what a
        // signal handler may.
        if unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut()) } != 0 {
            return os();
        }
        None
    });
    error.map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
}

/// Allocates nothing, takes no lock, calls nothing but system calls.
extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo_t to a handler that was installed with SA_SIGINFO.
    let about = unsafe { &*info };
    let code = about.si_code;
    // SAFETY: any bits are an address; it means one if the kernel raised the signal (code > 0).
    let address = unsafe { about.si_addr() }.addr();
    if is_access(code)
        && let Some((slot, (base, len))) =
            slots().find_map(|slot| slot.range_of(address).map(|range| (slot, range)))
    {
        // ORDERING: release, pairs with the acquire in `is_lost`: the flag stands before the zeros
        // can be read.
        slot.lost.store(true, Ordering::Release);
        // ORDERING: relaxed; stored before the range that `range_of` has seen.
        if map_zeros(base, len, slot.writable.load(Ordering::Relaxed)) {
            return;
        }
    }
    pass_on(signal, code, info, context);
}

/// Whether the code is that of a load or store by the thread that got the signal. Memory errors that
/// are reported without an access under way (BUS_MCEERR_AO) belong to no thread that borrows a
/// mapping, so the mapping could be another one by now.
const fn is_access(code: c_int) -> bool {
    matches!(code, libc::BUS_ADRERR | libc::BUS_MCEERR_AR)
}

/// Maps zeros over a registered range.
fn map_zeros(base: usize, len: usize, writable: bool) -> bool {
    let at = ptr::with_exposed_provenance_mut::<c_void>(base);
    let flags = MapFlags::PRIVATE | MapFlags::FIXED;
    let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
    // SAFETY: the range is that of a mapping whose owner agreed to find zeros in it (`register`).
    // The access that failed belongs to a thread that borrows the mapping's owner, so the mapping
    // is not being unmapped, nor its slot given to another, while this runs. Another thread may
    // have done the same already; then zeros replace zeros.
    unsafe { rustix::mm::mmap_anonymous(at, len, protection, flags) }.is_ok()
}

/// Hands a SIGBUS that is not ours to the handler that was there before.
fn pass_on(signal: c_int, code: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let before = BEFORE.get();
    let handler = before.map_or(libc::SIG_DFL, |before| before.sa_sigaction);
    if handler == libc::SIG_IGN && code <= 0 {
        return;
    }
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // SAFETY: the default action is always valid; an access that failed fails again on return.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        if code <= 0 {
            // SAFETY: raises a signal in this thread, to be delivered on return.
            unsafe { libc::raise(signal) };
        }
        return;
    }
    if before.is_some_and(|before| before.sa_flags & libc::SA_SIGINFO != 0) {
        type WithInfo = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
        // SAFETY: installed with SA_SIGINFO, hence a function of this signature.
        let handler = unsafe { std::mem::transmute::<usize, WithInfo>(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: installed without SA_SIGINFO, hence a function of this signature.
        let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(handler) };
        handler(signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failed_accesses_of_the_thread_itself_are_taken() {
        assert!(is_access(libc::BUS_ADRERR) && is_access(libc::BUS_MCEERR_AR));
        for other in [libc::BUS_MCEERR_AO, libc::BUS_ADRALN, libc::SI_USER, libc::SI_QUEUE] {
            assert!(!is_access(other), "{other}");
        }
    }
}
