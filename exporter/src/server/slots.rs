//! Slots of concurrent scrapes, shared fairly by the clients' addresses. A client that does not read
//! its answer loses its slot as soon as another one waits.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Time that a scrape may wait for its client in sum while others wait for a slot, and a connection
/// for a client that does not read while others wait for a place.
pub(super) const SLOW: Duration = Duration::from_secs(1);
/// Time that a request waits for a slot: half the timeout of a usual scraper.
pub(super) const QUEUE: Duration = Duration::from_secs(5);
/// Requests that wait for a slot. All of them together with the slots are fewer than connections,
/// so that a new connection always finds one to replace.
const WAITING: usize = 16;
/// Interval of looks for a slow scrape, by requests that wait.
const LOOK: Duration = Duration::from_millis(50);

/// All slots.
pub(super) struct Slots {
    count: usize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    taken: Vec<Arc<Holder>>,
    /// In the order of their arrival.
    waiting: Vec<Waiter>,
}

/// A request that waits for a slot.
struct Waiter {
    address: IpAddr,
    slot: oneshot::Sender<Slot>,
}

impl Queue {
    fn held_by(&self, address: IpAddr) -> usize {
        self.taken.iter().filter(|holder| holder.address == address).count()
    }

    fn waiting_of(&self, address: IpAddr) -> usize {
        self.waiting.iter().filter(|waiter| waiter.address == address).count()
    }

    /// Forgets waiters that gave up, and makes room for one of `address`: the newest waiter of an
    /// address that has more of them makes way. Whether there is room.
    fn make_room(&mut self, address: IpAddr) -> bool {
        self.waiting.retain(|waiter| !waiter.slot.is_closed());
        if self.waiting.len() < WAITING {
            return true;
        }
        let crowds = self.waiting.iter().enumerate();
        let newest = crowds.max_by_key(|(at, waiter)| (self.waiting_of(waiter.address), *at));
        let Some((at, crowd)) = newest else { return true };
        let makes_way = self.waiting_of(crowd.address) > self.waiting_of(address) + 1;
        if makes_way {
            self.waiting.remove(at);
        }
        makes_way
    }

    /// The waiter whose address holds the fewest slots, the first of them.
    fn next(&mut self) -> Option<Waiter> {
        let waiting = self.waiting.iter().enumerate();
        let (at, _) = waiting.min_by_key(|(at, waiter)| (self.held_by(waiter.address), *at))?;
        Some(self.waiting.remove(at))
    }
}

/// The scrape in a slot.
struct Holder {
    address: IpAddr,
    waits: Mutex<Waits>,
    revoked: Notify,
}

/// Waits of a scrape for its client.
#[derive(Clone, Copy, Default)]
struct Waits {
    total: Duration,
    since: Option<Instant>,
    /// Whether the slot was revoked.
    revoked: bool,
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slots {
    pub(super) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { count: count.max(1), queue: Mutex::default() })
    }

    /// Takes a slot for a client at `address` if one is free.
    pub(super) fn try_take(self: &Arc<Self>, address: IpAddr) -> Option<Slot> {
        let mut queue = lock(&self.queue);
        (queue.taken.len() < self.count).then(|| self.hold(&mut queue, address))
    }

    /// Takes a slot, and waits for one if need be. `None` if too many wait, or none becomes free.
    pub(super) async fn take(self: &Arc<Self>, address: IpAddr) -> Option<Slot> {
        let mut granted = {
            let mut queue = lock(&self.queue);
            if queue.taken.len() < self.count {
                return Some(self.hold(&mut queue, address));
            }
            if !queue.make_room(address) {
                return None;
            }
            let (slot, granted) = oneshot::channel();
            queue.waiting.push(Waiter { address, slot });
            granted
        };
        let end = Instant::now() + QUEUE;
        while Instant::now() < end {
            self.revoke_slowest();
            tokio::select! {
                slot = &mut granted => return slot.ok(),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        None
    }

    fn hold(self: &Arc<Self>, queue: &mut Queue, address: IpAddr) -> Slot {
        let waits = Mutex::default();
        let holder = Arc::new(Holder { address, waits, revoked: Notify::new() });
        queue.taken.push(Arc::clone(&holder));
        Slot { slots: Arc::clone(self), holder }
    }

    /// Frees a slot and grants it to a request that waits.
    fn free(self: &Arc<Self>, holder: &Arc<Holder>) {
        let mut queue = lock(&self.queue);
        queue.taken.retain(|taken| !Arc::ptr_eq(taken, holder));
        while queue.taken.len() < self.count
            && let Some(Waiter { address, slot }) = queue.next()
        {
            if slot.is_closed() {
                continue;
            }
            let granted = self.hold(&mut queue, address);
            drop(queue);
            // One that gave up just now frees its slot again.
            drop(slot.send(granted));
            queue = lock(&self.queue);
        }
    }

    /// Revokes the slot that has waited the longest for its client, if that was too long.
    fn revoke_slowest(&self) {
        let queue = lock(&self.queue);
        let held = queue.taken.iter().filter(|holder| !lock(&holder.waits).revoked);
        if let Some(slowest) = held.max_by_key(|holder| lock(&holder.waits).sum()) {
            let mut waits = lock(&slowest.waits);
            if waits.sum() >= SLOW {
                waits.revoked = true;
                slowest.revoked.notify_one();
            }
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
        (waits.total, waits.since) = (waits.sum(), None);
        sent
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.free(&self.holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

    #[tokio::test(start_paused = true)]
    async fn a_scrape_that_waits_for_its_client_makes_way() {
        let slots = Slots::new(1);
        let slow = slots.take(HERE).await.unwrap();
        let waiting = tokio::spawn(async move { slow.wait(std::future::pending::<()>()).await });
        assert!(slots.take(HERE).await.is_some());
        assert!(waiting.await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_scrape_that_is_read_keeps_its_slot() {
        let slots = Slots::new(1);
        let read = slots.take(HERE).await.unwrap();
        assert_eq!(read.wait(async { 7 }).await, Some(7));
        assert!(slots.take(HERE).await.is_none());
        drop(read);
        assert!(slots.take(HERE).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_does_not_wait() {
        let slots = Slots::new(1);
        let _read = slots.take(HERE).await.unwrap();
        let crowd: Vec<_> = (0..WAITING)
            .map(|_| {
                let slots = Arc::clone(&slots);
                tokio::spawn(async move { slots.take(HERE).await.is_some() })
            })
            .collect();
        tokio::task::yield_now().await;
        let begin = Instant::now();
        assert!(slots.take(HERE).await.is_none());
        assert_eq!(begin.elapsed(), Duration::ZERO);
        for waiting in crowd {
            assert!(!waiting.await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_with_fewer_scrapes_is_next() {
        let slots = Slots::new(2);
        let held = [slots.take(HERE).await.unwrap(), slots.take(HERE).await.unwrap()];
        let wait = |address| {
            let slots = Arc::clone(&slots);
            tokio::spawn(async move { slots.take(address).await })
        };
        // More of one address than may wait.
        let crowd: Vec<_> = (0..2 * WAITING).map(|_| wait(HERE)).collect();
        tokio::task::yield_now().await;
        let other = wait(THERE);
        tokio::task::yield_now().await;
        let [first, second] = held;
        drop(first);
        let granted = other.await.unwrap();
        assert!(granted.is_some(), "one of the crowd made way, and none was served before");
        drop(second);
        let mut served = 0;
        for waiting in crowd {
            served += usize::from(waiting.await.unwrap().is_some());
        }
        assert_eq!(served, WAITING - 1);
    }
}
