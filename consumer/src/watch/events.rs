//! Events of many regions, on one descriptor.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event as Ready, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::Errno;
use rustix::thread::futex::{self, WaitFlags, WaitPtr};

use super::futex::{region_wait, wait_for};
use crate::attach::Attachment;
use crate::attach::pidfd::timespec;
use crate::error::AttachError;
use crate::region::Region;
use crate::region::file::duplicate;

/// Words that one thread waits for in addition to its own; the kernel takes 128 at a time.
const PER_THREAD: usize = 127;
/// The number of the eventfd; those of regions are below it.
const BELL: u64 = u64::MAX;

/// What happened, by the key under which its region was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The producer announced something: a change of state, a threshold, a job's end.
    Notified(u64),
    /// The producer has exited. Reported once.
    ProducerExited(u64),
}

/// Waits for events of many regions at once, without polling.
///
/// Blocking users call [`Events::wait`]. Asynchronous ones wait until the descriptor is readable
/// (`tokio::io::unix::AsyncFd`, epoll, poll), then call `wait` with a timeout of zero.
///
/// ```no_run
/// use domstat_consumer::Attachment;
/// use domstat_consumer::watch::{Event, Events};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let web1 = Attachment::open("/run/domstat/web1.domstat")?;
/// let mut events = Events::new()?;
/// events.add(1, &web1)?;
/// for event in events.wait(None)? {
///     match event {
///         Event::Notified(1) => println!("{:?}", web1.region().status()),
///         Event::ProducerExited(1) => println!("{}", web1.liveness().name()),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Events {
    epoll: OwnedFd,
    bell: Arc<Bell>,
    threads: Vec<Arc<Words>>,
    /// What was added, by a number of its own.
    added: HashMap<u64, Added>,
    /// The number of what was added under each key.
    numbers: HashMap<u64, u64>,
    /// The next number. None is given twice: an event of a replaced region that arrives late
    /// belongs to no other.
    next: u64,
}

/// A region whose events are waited for.
struct Added {
    key: u64,
    /// What becomes ready when its producer exits; empty once that was reported.
    fds: Vec<OwnedFd>,
}

/// Where the threads leave what they saw.
struct Bell {
    fd: OwnedFd,
    notified: Mutex<Vec<u64>>,
}

/// The words that one thread waits for.
struct Words {
    words: Mutex<Vec<WordOf>>,
    /// Bumped when the list changed.
    changed: AtomicU32,
    stop: AtomicBool,
}

struct WordOf {
    number: u64,
    region: Arc<Region>,
    seen: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn os(action: &str) -> impl Fn(Errno) -> AttachError {
    let action = action.to_owned();
    move |e| AttachError::os(action.clone(), e)
}

impl Events {
    /// Waits for nothing yet.
    ///
    /// # Errors
    /// [`AttachError::Os`] if there are no descriptors left.
    pub fn new() -> Result<Self, AttachError> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(os("create an epoll"))?;
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(os("create an eventfd"))?;
        epoll::add(&epoll, &fd, EventData::new_u64(BELL), EventFlags::IN)
            .map_err(os("wait for an eventfd"))?;
        let bell = Arc::new(Bell { fd, notified: Mutex::default() });
        let (added, numbers) = (HashMap::new(), HashMap::new());
        Ok(Self { epoll, bell, threads: Vec::new(), added, numbers, next: 0 })
    }

    /// Waits for events of a region, too, from its notify word's present number on. `key` is any
    /// number; what was added under it before is replaced. After
    /// [`Attachment::reattach`] it has to be added again.
    ///
    /// # Errors
    /// [`AttachError::Os`] if there are no descriptors or threads left; nothing is waited for under
    /// the key then.
    pub fn add(&mut self, key: u64, attachment: &Attachment) -> Result<(), AttachError> {
        self.remove(key);
        let number = self.next;
        self.next += 1;
        let mut fds = Vec::new();
        if let Err(e) = self.register(number, attachment, &mut fds) {
            self.unregister(&fds);
            return Err(e);
        }
        let region = attachment.shared_region();
        let seen = region.notify_count();
        let word = WordOf { number, region, seen };
        let free = self.threads.iter().find(|t| lock(&t.words).len() < PER_THREAD);
        let thread = match free.map(Arc::clone).map_or_else(|| self.start(), Ok) {
            Ok(thread) => thread,
            Err(e) => {
                self.unregister(&fds);
                return Err(e);
            }
        };
        self.added.insert(number, Added { key, fds });
        self.numbers.insert(key, number);
        lock(&thread.words).push(word);
        thread.wake();
        Ok(())
    }

    /// Has the epoll wait for a producer's end; what was registered is in `fds`, also on an error.
    fn register(
        &self,
        number: u64,
        attachment: &Attachment,
        fds: &mut Vec<OwnedFd>,
    ) -> Result<(), AttachError> {
        for (fd, flags) in attachment.producer_fds() {
            // A connection is shared by many regions, and an epoll takes each descriptor once.
            let fd = duplicate(&fd)?;
            let in_epoll =
                if flags.contains(PollFlags::RDHUP) { EventFlags::RDHUP } else { EventFlags::IN };
            let flags = in_epoll | EventFlags::ONESHOT;
            epoll::add(&self.epoll, &fd, EventData::new_u64(number), flags)
                .map_err(os("wait for a producer's end"))?;
            fds.push(fd);
        }
        Ok(())
    }

    /// Takes descriptors out of the epoll. To close them would not do: the attachment holds what
    /// they are duplicates of, and as long as that is open the epoll reports it.
    fn unregister(&self, fds: &[OwnedFd]) {
        for fd in fds {
            let _ = epoll::delete(&self.epoll, fd);
        }
    }

    /// Waits no longer for a producer's end; its key, if it was waited for until now.
    fn end(&mut self, number: u64) -> Option<u64> {
        let added = self.added.get_mut(&number)?;
        let (key, fds) = (added.key, std::mem::take(&mut added.fds));
        self.unregister(&fds);
        (!fds.is_empty()).then_some(key)
    }

    /// Waits no longer for events of a region.
    pub fn remove(&mut self, key: u64) {
        let Some(number) = self.numbers.remove(&key) else { return };
        self.end(number);
        self.added.remove(&number);
        for thread in &self.threads {
            lock(&thread.words).retain(|word| word.number != number);
            thread.wake();
        }
    }

    /// What happened; waits for it until `timeout` is over (`None`: without end), and returns nothing
    /// then.
    ///
    /// # Errors
    /// [`AttachError::Os`] if the operating system cannot wait.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Vec<Event>, AttachError> {
        let timeout = timeout.map(timespec);
        let mut ready = [const { MaybeUninit::<Ready>::uninit() }; 64];
        let numbers: Vec<u64> = match epoll::wait(&self.epoll, &mut ready, timeout.as_ref()) {
            Ok((ready, _)) => ready.iter().map(|ready| ready.data.u64()).collect(),
            Err(Errno::INTR) => Vec::new(),
            Err(e) => return Err(os("wait for events")(e)),
        };
        let mut events = Vec::new();
        if numbers.contains(&BELL) {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.bell.fd, &mut count[..]);
            let mut notified = std::mem::take(&mut *lock(&self.bell.notified));
            notified.sort_unstable();
            notified.dedup();
            let keys = notified.iter().filter_map(|number| Some(self.added.get(number)?.key));
            events.extend(keys.map(Event::Notified));
        }
        for number in numbers.into_iter().filter(|number| *number != BELL) {
            // A connection and a process may both report it.
            events.extend(self.end(number).map(Event::ProducerExited));
        }
        Ok(events)
    }

    fn start(&mut self) -> Result<Arc<Words>, AttachError> {
        let words = Arc::new(Words {
            words: Mutex::default(),
            changed: AtomicU32::new(0),
            stop: AtomicBool::new(false),
        });
        let (bell, of_thread) = (Arc::clone(&self.bell), Arc::clone(&words));
        std::thread::Builder::new()
            .name("domstat-events".into())
            .spawn(move || of_thread.run(&bell))
            .map_err(|e| AttachError::os("start a thread", e))?;
        self.threads.push(Arc::clone(&words));
        Ok(words)
    }
}

/// Readable when [`Events::wait`] has something to return.
impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        for thread in &self.threads {
            // ORDERING: release, pairs with the acquire in `run`.
            thread.stop.store(true, Ordering::Release);
            thread.wake();
        }
    }
}

impl Words {
    /// Has the thread look at its list again.
    fn wake(&self) {
        // ORDERING: release, pairs with the acquire in `run`: the list is as it was changed.
        self.changed.fetch_add(1, Ordering::Release);
        let _ = futex::wake(&self.changed, futex::Flags::PRIVATE, 1);
    }

    fn run(&self, bell: &Bell) {
        loop {
            // ORDERING: acquire, pairs with the release in `wake`; what changes the list after
            // this is noticed by the wait below.
            let changed = self.changed.load(Ordering::Acquire);
            // ORDERING: acquire, pairs with the release in `Drop`.
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let mut waits = vec![self.own(changed)];
            // Kept while the kernel looks at their words.
            let mut regions = Vec::new();
            let mut notified = Vec::new();
            lock(&self.words).retain_mut(|word| {
                let now = word.region.notify_count();
                // Of memory that went away nothing more is to come.
                let intact = word.region.intact().is_ok();
                if now != word.seen || !intact {
                    word.seen = now;
                    notified.push(word.number);
                }
                if let Some(address) = word.region.mem().notify_word().filter(|_| intact) {
                    waits.push(region_wait(address, now));
                    regions.push(Arc::clone(&word.region));
                }
                intact
            });
            if !notified.is_empty() {
                lock(&bell.notified).append(&mut notified);
                let _ = rustix::io::write(&bell.fd, &1u64.to_ne_bytes());
            }
            wait_for(&waits, None);
        }
    }

    fn own(&self, changed: u32) -> futex::Wait {
        let mut wait = futex::Wait::new();
        wait.val = u64::from(changed);
        wait.uaddr = WaitPtr::new(self.changed.as_ptr().cast());
        wait.flags = WaitFlags::SIZE_U32 | WaitFlags::PRIVATE;
        wait
    }
}
