//! Distribution of events to the subscribers of a control socket.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domstat_sources::contract::Event;
use domstat_sources::control::{EventLine, line};

/// Events that a subscriber may lag behind before it is dropped.
const BACKLOG: usize = 4096;
/// Bytes of these events: names and QEMU's error texts have no length of their own.
const BACKLOG_BYTES: usize = 1 << 20;

/// Takes each event to every subscriber, once and in order.
#[derive(Default)]
pub(crate) struct Hub {
    subscribers: Mutex<Subscribers>,
}

#[derive(Default)]
struct Subscribers {
    next: u64,
    list: BTreeMap<u64, (Option<String>, Arc<Queue>)>,
    closed: bool,
}

/// What a subscriber has not taken yet.
#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    lines: VecDeque<Arc<str>>,
    bytes: usize,
    closed: bool,
}

/// A subscription; dropping it ends it.
pub(super) struct Subscription {
    hub: Arc<Hub>,
    number: u64,
    queue: Arc<Queue>,
}

/// What a wait for an event ended with.
pub(super) enum Next {
    Line(Arc<str>),
    Nothing,
    Closed,
}

impl Hub {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues the event for every subscriber of the domain. One that lags too far behind is
    /// dropped and sees its connection end.
    pub(crate) fn send(&self, domain: &str, event: &Event) {
        let message = EventLine { domain: domain.to_owned(), event: event.clone() };
        let text: Arc<str> = line(&message).into();
        self.lock().list.retain(|_, (wanted, queue)| {
            wanted.as_ref().is_some_and(|wanted| wanted != domain) || queue.push(&text)
        });
    }

    pub(super) fn subscribe(self: &Arc<Self>, domain: Option<String>) -> Subscription {
        let queue = Arc::<Queue>::default();
        let mut subscribers = self.lock();
        let number = subscribers.next;
        subscribers.next += 1;
        if subscribers.closed {
            queue.close(false);
        } else {
            subscribers.list.insert(number, (domain, Arc::clone(&queue)));
        }
        drop(subscribers);
        Subscription { hub: Arc::clone(self), number, queue }
    }

    /// Ends every subscription once its last event is taken.
    pub(crate) fn close(&self) {
        let mut subscribers = self.lock();
        subscribers.closed = true;
        std::mem::take(&mut subscribers.list).into_values().for_each(|(_, q)| q.close(false));
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if the subscriber lags too far behind; what it has not taken is dropped.
    fn push(&self, text: &Arc<str>) -> bool {
        let mut state = self.lock();
        let full = state.lines.len() >= BACKLOG
            || (!state.lines.is_empty() && state.bytes + text.len() > BACKLOG_BYTES);
        if full {
            drop(state);
            self.close(true);
            return false;
        }
        state.bytes += text.len();
        state.lines.push_back(Arc::clone(text));
        drop(state);
        self.changed.notify_one();
        true
    }

    fn close(&self, forget: bool) {
        let mut state = self.lock();
        state.closed = true;
        if forget {
            *state = QueueState { closed: true, ..QueueState::default() };
        }
        drop(state);
        self.changed.notify_one();
    }
}

impl Subscription {
    /// Waits for the next event.
    pub(super) fn next(&self, limit: Duration) -> Next {
        let waits = |state: &mut QueueState| state.lines.is_empty() && !state.closed;
        let state = self.queue.lock();
        let (mut state, _) = self
            .queue
            .changed
            .wait_timeout_while(state, limit, waits)
            .unwrap_or_else(PoisonError::into_inner);
        match state.lines.pop_front() {
            Some(text) => {
                state.bytes -= text.len();
                Next::Line(text)
            }
            None if state.closed => Next::Closed,
            None => Next::Nothing,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.lock().list.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn event(error: &str) -> Event {
        Event::State { state: error.to_owned() }
    }

    #[test]
    fn events_come_once_and_in_order_and_only_of_the_domain() {
        let hub = Hub::new();
        let (all, one) = (hub.subscribe(None), hub.subscribe(Some("b".to_owned())));
        hub.send("a", &event("1"));
        hub.send("b", &event("2"));
        let text = |next| match next {
            Next::Line(text) => text.to_string(),
            _ => String::new(),
        };
        assert!(text(all.next(NOW)).contains("\"a\""));
        assert!(text(all.next(NOW)).contains("\"b\""));
        assert!(text(one.next(NOW)).contains("\"b\""));
        assert!(matches!(one.next(NOW), Next::Nothing));
        hub.send("b", &event("3"));
        hub.close();
        assert!(text(one.next(NOW)).contains("\"3\""), "what was sent before the end is taken");
        assert!(matches!(one.next(NOW), Next::Closed));
        assert!(matches!(hub.subscribe(None).next(NOW), Next::Closed));
    }

    #[test]
    fn a_subscriber_that_takes_nothing_is_dropped_with_its_backlog() {
        let hub = Hub::new();
        let many = hub.subscribe(None);
        for _ in 0..=BACKLOG {
            hub.send("a", &Event::Connected);
        }
        assert!(matches!(many.next(NOW), Next::Closed));
        let large = hub.subscribe(None);
        let text = "x".repeat(BACKLOG_BYTES / 2);
        for _ in 0..3 {
            hub.send("a", &event(&text));
        }
        assert!(matches!(large.next(NOW), Next::Closed));
        assert!(hub.lock().list.is_empty());
    }
}
