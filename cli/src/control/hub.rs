//! Distribution of events to the subscribers of a control socket.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domstat_sources::contract::Event;
use domstat_sources::control::{EventLine, line};

/// Most events that a subscriber may lag behind. Domains with events in its queue have equal shares of
/// them: one that floods loses its own events only.
const MAX_BACKLOG: usize = 4096;
/// Most of them of one domain: QEMU sends some tens a second at most.
const MAX_BACKLOG_OF_ONE: usize = 256;
/// Bytes of one domain's events for each that it may have there: names and QEMU's error texts have no
/// length of their own.
const MAX_EVENT_BYTES: usize = 256;

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
    /// The domain of each event, with its line.
    events: VecDeque<(Arc<str>, Queued)>,
    shares: BTreeMap<Arc<str>, Share>,
    closed: bool,
}

enum Queued {
    Line(Arc<str>),
    /// As many as the domain's share says.
    Lost,
}

/// A domain's part of a queue.
#[derive(Default)]
struct Share {
    events: usize,
    bytes: usize,
    /// Events that were left out since its last one in the queue.
    lost: u64,
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

    /// Queues the event for every subscriber of the domain. One that lags too far behind gets the
    /// number of those that it missed in their place.
    pub(crate) fn send(&self, domain: &str, event: &Event) {
        let text: Arc<str> = line_of(domain, event.clone()).into();
        let domain: Arc<str> = domain.into();
        for (wanted, queue) in self.lock().list.values() {
            if wanted.as_ref().is_none_or(|wanted| **wanted == *domain) {
                queue.push(&domain, &text);
            }
        }
    }

    pub(super) fn subscribe(self: &Arc<Self>, domain: Option<String>) -> Subscription {
        let queue = Arc::<Queue>::default();
        let mut subscribers = self.lock();
        let number = subscribers.next;
        subscribers.next += 1;
        if subscribers.closed {
            queue.close();
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
        std::mem::take(&mut subscribers.list).into_values().for_each(|(_, q)| q.close());
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, domain: &Arc<str>, text: &Arc<str>) {
        let mut state = self.lock();
        let QueueState { events, shares, .. } = &mut *state;
        let others = shares.len() + usize::from(!shares.contains_key(domain));
        let most = (MAX_BACKLOG / others.max(1)).clamp(1, MAX_BACKLOG_OF_ONE);
        let share = shares.entry(Arc::clone(domain)).or_default();
        let is_full = share.events >= most
            || (share.events > 0 && share.bytes + text.len() > most * MAX_EVENT_BYTES);
        if !is_full && share.lost == 0 {
            share.events += 1;
            share.bytes += text.len();
            events.push_back((Arc::clone(domain), Queued::Line(Arc::clone(text))));
        } else {
            if share.lost == 0 {
                events.push_back((Arc::clone(domain), Queued::Lost));
            }
            share.lost += 1;
        }
        drop(state);
        self.changed.notify_one();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }
}

impl QueueState {
    fn pop(&mut self) -> Option<Arc<str>> {
        let (domain, queued) = self.events.pop_front()?;
        let share = self.shares.entry(Arc::clone(&domain)).or_default();
        let text = match queued {
            Queued::Line(text) => {
                share.events -= 1;
                share.bytes -= text.len();
                text
            }
            Queued::Lost => {
                let events = std::mem::take(&mut share.lost);
                line_of(&domain, Event::Lost { events }).into()
            }
        };
        if share.events == 0 && share.lost == 0 {
            self.shares.remove(&domain);
        }
        Some(text)
    }
}

fn line_of(domain: &str, event: Event) -> String {
    line(&EventLine { domain: domain.to_owned(), event })
}

impl Subscription {
    /// Waits for the next event.
    pub(super) fn next(&self, limit: Duration) -> Next {
        let waits = |state: &mut QueueState| state.events.is_empty() && !state.closed;
        let state = self.queue.lock();
        let (mut state, _) = self
            .queue
            .changed
            .wait_timeout_while(state, limit, waits)
            .unwrap_or_else(PoisonError::into_inner);
        match state.pop() {
            Some(text) => Next::Line(text),
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
        Event::State { state: error.to_owned(), reason: None, disk: None }
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

    /// What the subscriber has to take, by domain and word.
    fn taken(from: &Subscription) -> Vec<EventLine> {
        let mut lines = Vec::new();
        while let Next::Line(text) = from.next(NOW) {
            lines.push(serde_json::from_str(&text).unwrap());
        }
        lines
    }

    #[test]
    fn a_domain_that_floods_loses_its_own_events_in_order() {
        let hub = Hub::new();
        let all = hub.subscribe(None);
        hub.send("quiet", &event("before"));
        for _ in 0..MAX_BACKLOG * 2 {
            hub.send("flood", &Event::Connected);
        }
        hub.send("quiet", &event("after"));
        let lines = taken(&all);
        let of = |domain| lines.iter().filter(move |l| l.domain == domain).map(|l| &l.event);
        assert!(of("quiet").eq(&[event("before"), event("after")]));
        let lost = u64::try_from(MAX_BACKLOG * 2 - MAX_BACKLOG_OF_ONE).unwrap();
        assert_eq!(of("flood").count(), MAX_BACKLOG_OF_ONE + 1);
        assert_eq!(of("flood").next_back(), Some(&Event::Lost { events: lost }));
        assert_eq!(lines.last().unwrap().domain, "quiet", "in order");
        hub.send("flood", &Event::Connected);
        assert_eq!(taken(&all).pop().unwrap().event, Event::Connected, "there is room again");
    }

    #[test]
    fn what_a_subscriber_lags_behind_is_bounded_whatever_the_number_of_domains() {
        let hub = Hub::new();
        let all = hub.subscribe(None);
        let text = "x".repeat(MAX_EVENT_BYTES * 16);
        for domain in 0..1000 {
            let domain = format!("d{domain}");
            (0..8).for_each(|_| hub.send(&domain, &event("1")));
            hub.send(&domain, &event(&text));
        }
        let queue = all.queue.lock();
        assert_eq!(queue.shares.len(), 1000, "every domain has a part");
        let bytes: usize = queue.shares.values().map(|share| share.bytes).sum();
        assert!(queue.events.len() < MAX_BACKLOG * 8, "{}", queue.events.len());
        assert!(bytes < MAX_BACKLOG * MAX_EVENT_BYTES * 8, "{bytes}");
        drop(queue);
        drop(all);
        assert!(hub.lock().list.is_empty());
    }
}
