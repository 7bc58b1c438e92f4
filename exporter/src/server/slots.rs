//! Slots of concurrent scrapes. A client that does not read its answer loses its slot as soon as
//! another one waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Time that a scrape may wait for its client in sum while others wait for a slot.
const SLOW: Duration = Duration::from_secs(1);
/// Time that a request waits for a slot: half the timeout of a usual scraper.
const QUEUE: Duration = Duration::from_secs(5);
/// Requests that wait for a slot. All of them together with the slots are fewer than connections,
/// so that a new connection always finds one to replace.
const WAITING: usize = 16;
/// Interval of looks for a slow scrape, by requests that wait.
const LOOK: Duration = Duration::from_millis(50);

/// All slots.
pub(super) struct Slots {
    free: Arc<Semaphore>,
    queue: Semaphore,
    taken: Mutex<Vec<Arc<Holder>>>,
}

/// The scrape in a slot.
struct Holder {
    waits: Mutex<Waits>,
    revoked: Notify,
}

/// Waits of a scrape for its client.
#[derive(Clone, Copy, Default)]
struct Waits {
    total: Duration,
    since: Option<Instant>,
}

impl Waits {
    fn sum(self) -> Duration {
        self.total + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// A slot, freed on drop.
pub(super) struct Slot {
    slots: Arc<Slots>,
    holder: Arc<Holder>,
    _permit: OwnedSemaphorePermit,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slots {
    pub(super) fn new(count: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(count.max(1)));
        Arc::new(Self { free, queue: Semaphore::new(WAITING), taken: Mutex::default() })
    }

    /// Takes a slot, and waits for one if need be. `None` if too many wait, or none becomes free.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Slot> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(self.hold(permit));
        }
        let _waiting = self.queue.try_acquire().ok()?;
        let free = Arc::clone(&self.free).acquire_owned();
        tokio::pin!(free);
        let end = Instant::now() + QUEUE;
        while Instant::now() < end {
            self.revoke_slowest();
            tokio::select! {
                permit = &mut free => return Some(self.hold(permit.ok()?)),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        None
    }

    fn hold(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Slot {
        let holder = Arc::new(Holder { waits: Mutex::default(), revoked: Notify::new() });
        lock(&self.taken).push(Arc::clone(&holder));
        Slot { slots: Arc::clone(self), holder, _permit: permit }
    }

    /// Revokes the slot that has waited the longest for its client, if that was too long.
    fn revoke_slowest(&self) {
        let mut taken = lock(&self.taken);
        let waits = taken.iter().enumerate().map(|(at, holder)| (lock(&holder.waits).sum(), at));
        if let Some((sum, at)) = waits.max()
            && sum >= SLOW
        {
            taken.swap_remove(at).revoked.notify_one();
        }
    }
}

impl Slot {
    /// Waits for the client in `sending`. `None` if the slot is revoked meanwhile.
    pub(super) async fn wait<T>(&self, sending: impl Future<Output = T>) -> Option<T> {
        lock(&self.holder.waits).since = Some(Instant::now());
        let sent = tokio::select! {
            sent = sending => Some(sent),
            () = self.holder.revoked.notified() => None,
        };
        let mut waits = lock(&self.holder.waits);
        *waits = Waits { total: waits.sum(), since: None };
        sent
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.slots.taken).retain(|holder| !Arc::ptr_eq(holder, &self.holder));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_scrape_that_waits_for_its_client_makes_way() {
        let slots = Slots::new(1);
        let slow = slots.take().await.unwrap();
        let waiting = tokio::spawn(async move { slow.wait(std::future::pending::<()>()).await });
        assert!(slots.take().await.is_some());
        assert!(waiting.await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_scrape_that_is_read_keeps_its_slot() {
        let slots = Slots::new(1);
        let read = slots.take().await.unwrap();
        assert_eq!(read.wait(async { 7 }).await, Some(7));
        assert!(slots.take().await.is_none());
        drop(read);
        assert!(slots.take().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_does_not_wait() {
        let slots = Slots::new(1);
        let _read = slots.take().await.unwrap();
        let crowd: Vec<_> = (0..WAITING)
            .map(|_| {
                let slots = Arc::clone(&slots);
                tokio::spawn(async move { slots.take().await.is_some() })
            })
            .collect();
        tokio::task::yield_now().await;
        let begin = Instant::now();
        assert!(slots.take().await.is_none());
        assert_eq!(begin.elapsed(), Duration::ZERO);
        for waiting in crowd {
            assert!(!waiting.await.unwrap());
        }
    }
}
