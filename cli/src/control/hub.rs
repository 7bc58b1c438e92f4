//! Distribution of events to the subscribers of a control socket.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domstat_sources::contract::Event;
use domstat_sources::control::{Cursor, EventLine, line};

/// Most events that are remembered for subscribers that come back, and most bytes of their lines: some
/// minutes of the busiest VMs, days of usual ones.
const MAX_HISTORY: usize = 4096;
const MAX_HISTORY_BYTES: usize = 4 << 20;
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
    /// Of this daemon; no other one has it.
    epoch: String,
    subscribers: Mutex<Subscribers>,
    /// Notified when a subscription has ended.
    left: Condvar,
}

#[derive(Default)]
struct Subscribers {
    next: u64,
    list: BTreeMap<u64, (Option<String>, Arc<Queue>)>,
    history: History,
    /// Subscriptions that have not ended.
    open: usize,
    closed: bool,
}

/// The last events.
#[derive(Default)]
struct History {
    /// The domain of each event, with its line. The last one has the number before `next`.
    events: VecDeque<(Arc<str>, Arc<str>)>,
    bytes: usize,
    /// The number of the next event.
    next: u64,
}

impl History {
    fn push(&mut self, domain: Arc<str>, text: Arc<str>) {
        self.next += 1;
        self.bytes += text.len();
        self.events.push_back((domain, text));
        while self.events.len() > MAX_HISTORY || self.bytes > MAX_HISTORY_BYTES {
            let Some((_, text)) = self.events.pop_front() else { return };
            self.bytes -= text.len();
        }
    }

    /// The number of the first event that is remembered.
    fn first(&self) -> u64 {
        self.next.saturating_sub(self.events.len() as u64)
    }

    /// The events from this number on, and what was lost of them.
    fn since(&self, from: u64) -> (Option<Event>, impl Iterator<Item = &(Arc<str>, Arc<str>)>) {
        let first = self.first();
        let lost = first.checked_sub(from).filter(|lost| *lost > 0);
        let skipped = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let lost = lost.map(|lost| Event::Lost { events: Some(lost) });
        (lost, self.events.iter().skip(skipped))
    }
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
        let epoch = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        Arc::new(Self { epoch, ..Self::default() })
    }

    /// The place of an event of this daemon.
    fn at(&self, number: u64) -> Cursor {
        Cursor { epoch: Some(self.epoch.clone()), number }
    }

    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues the event for every subscriber of the domain. One that lags too far behind gets the
    /// number of those that it missed in their place.
    pub(crate) fn send(&self, domain: &str, event: &Event) {
        let mut subscribers = self.lock();
        let at = Some(self.at(subscribers.history.next));
        let text: Arc<str> =
            line(&EventLine { domain: domain.to_owned(), at, event: event.clone() }).into();
        let domain: Arc<str> = domain.into();
        for (wanted, queue) in subscribers.list.values() {
            if wanted.as_ref().is_none_or(|wanted| **wanted == *domain) {
                queue.push(&domain, &text);
            }
        }
        subscribers.history.push(domain, text);
    }

    /// Subscribes to the events of a domain, or of all: from the next one on, or from an earlier one as
    /// far as these are remembered. Also gives the number of the next event.
    pub(super) fn subscribe(
        self: &Arc<Self>,
        domain: Option<String>,
        from: Option<&Cursor>,
    ) -> (Subscription, Cursor) {
        let queue = Arc::<Queue>::default();
        let mut subscribers = self.lock();
        let history = &subscribers.history;
        let at = self.at(history.next);
        if let Some(from) = from {
            let is_own = from.epoch.as_ref().is_none_or(|epoch| *epoch == self.epoch);
            let (lost, events) = match is_own && from.number <= history.next {
                true => history.since(from.number),
                // Numbers of another daemon: how many of its events there were is not known.
                false => (Some(Event::Lost { events: None }), history.since(history.first()).1),
            };
            let lost = lost.map(|lost| {
                let domain = domain.clone().unwrap_or_default();
                (Arc::from(domain.as_str()), Arc::from(line_of(&domain, lost)))
            });
            let is_wanted = |of: &Arc<str>| domain.as_ref().is_none_or(|domain| **of == **domain);
            let events = events.filter(|(of, _)| is_wanted(of)).cloned();
            lost.into_iter().chain(events).for_each(|(of, text)| queue.add(&of, &text));
        }
        let number = subscribers.next;
        subscribers.next += 1;
        subscribers.open += 1;
        if subscribers.closed {
            queue.close();
        } else {
            subscribers.list.insert(number, (domain, Arc::clone(&queue)));
        }
        drop(subscribers);
        (Subscription { hub: Arc::clone(self), number, queue }, at)
    }

    /// The daemon ends: every subscription does once its last event is taken, which says so. Waits for
    /// them, at most for `limit`.
    pub(crate) fn close(&self, limit: Duration) {
        let mut subscribers = self.lock();
        subscribers.closed = true;
        let (nobody, last) = (Arc::from(""), Arc::from(line_of("", Event::DaemonEnds)));
        for (_, queue) in std::mem::take(&mut subscribers.list).into_values() {
            queue.add(&nobody, &last);
            queue.close();
        }
        let is_open = |subscribers: &mut Subscribers| subscribers.open > 0;
        let waited = self.left.wait_timeout_while(subscribers, limit, is_open);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event, however many there are.
    fn add(&self, domain: &Arc<str>, text: &Arc<str>) {
        let mut state = self.lock();
        let share = state.shares.entry(Arc::clone(domain)).or_default();
        share.events += 1;
        share.bytes += text.len();
        state.events.push_back((Arc::clone(domain), Queued::Line(Arc::clone(text))));
        drop(state);
        self.changed.notify_one();
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
                let events = Some(std::mem::take(&mut share.lost));
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
    line(&EventLine { domain: domain.to_owned(), at: None, event })
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
        let mut subscribers = self.hub.lock();
        subscribers.list.remove(&self.number);
        subscribers.open = subscribers.open.saturating_sub(1);
        drop(subscribers);
        self.hub.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn all_of(hub: &Arc<Hub>) -> Subscription {
        hub.subscribe(None, None).0
    }

    fn event(error: &str) -> Event {
        Event::State { state: error.to_owned(), reason: None, disk: None }
    }

    #[test]
    fn events_come_once_and_in_order_and_only_of_the_domain() {
        let hub = Hub::new();
        let (all, one) = (all_of(&hub), hub.subscribe(Some("b".to_owned()), None).0);
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
        hub.close(NOW);
        assert!(text(one.next(NOW)).contains("\"3\""), "what was sent before the end is taken");
        assert_eq!(text(one.next(NOW)), "{\"event\":\"daemon_ends\"}\n");
        assert!(matches!(one.next(NOW), Next::Closed));
        assert!(matches!(all_of(&hub).next(NOW), Next::Closed));
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
        let all = all_of(&hub);
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
        assert_eq!(of("flood").next_back(), Some(&Event::Lost { events: Some(lost) }));
        assert_eq!(lines.last().unwrap().domain, "quiet", "in order");
        hub.send("flood", &Event::Connected);
        assert_eq!(taken(&all).pop().unwrap().event, Event::Connected, "there is room again");
    }

    #[test]
    fn what_a_subscriber_lags_behind_is_bounded_whatever_the_number_of_domains() {
        let hub = Hub::new();
        let all = all_of(&hub);
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

    #[test]
    fn a_subscriber_continues_where_it_was() {
        let hub = Hub::new();
        (0..10).for_each(|n| hub.send(if n % 2 == 0 { "a" } else { "b" }, &event(&n.to_string())));
        let from = |number| Cursor { epoch: Some(hub.epoch.clone()), number };
        let (one, next) = hub.subscribe(Some("b".to_owned()), Some(&from(4)));
        assert_eq!(next, from(10));
        hub.send("b", &event("10"));
        let lines = taken(&one);
        let numbers: Vec<u64> = lines.iter().map(|l| l.at.as_ref().unwrap().number).collect();
        assert_eq!(numbers, [5, 7, 9, 10], "once each, in order");
        assert!(taken(&hub.subscribe(None, Some(&from(11))).0).is_empty(), "nothing was missed");
        // Without an epoch the number is this daemon's.
        let bare = Cursor { epoch: None, number: 10 };
        assert_eq!(taken(&hub.subscribe(None, Some(&bare)).0).len(), 1);
    }

    #[test]
    fn what_is_not_remembered_any_more_is_lost() {
        let hub = Hub::new();
        let many = MAX_HISTORY as u64 + 5;
        (0..many).for_each(|_| hub.send("a", &Event::Connected));
        let from = |number| Cursor { epoch: Some(hub.epoch.clone()), number };
        let lines = taken(&hub.subscribe(None, Some(&from(2))).0);
        assert_eq!(lines[0].event, Event::Lost { events: Some(3) });
        assert_eq!((lines.len(), &lines[1].at), (MAX_HISTORY + 1, &Some(from(5))));
        assert_eq!(lines.last().unwrap().at, Some(from(many - 1)));
        let big = event(&"x".repeat(MAX_HISTORY_BYTES / 4));
        (0..10).for_each(|_| hub.send("a", &big));
        assert!(hub.lock().history.bytes <= MAX_HISTORY_BYTES);
        assert!(hub.lock().history.events.len() < 4);
    }

    #[test]
    fn numbers_of_another_daemon_are_lost_and_all_of_this_one_is_new() {
        let (before, hub) = (Hub::new(), Hub::new());
        assert_ne!(before.epoch, hub.epoch);
        (0..3).for_each(|n| hub.send("a", &event(&n.to_string())));
        let of_before = Cursor { epoch: Some(before.epoch.clone()), number: 2 };
        // A number that this daemon has not reached is another's, too.
        for from in [of_before, Cursor { epoch: None, number: 4 }] {
            let lines = taken(&hub.subscribe(None, Some(&from)).0);
            assert_eq!(lines[0].event, Event::Lost { events: None }, "{from}");
            assert_eq!((lines.len(), lines[0].domain.as_str()), (4, ""));
        }
    }
}
