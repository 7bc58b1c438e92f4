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
/// Of how many events before those the domains are known, so that a subscriber of one domain learns what
/// it missed of that one.
const MAX_DROPPED: usize = 16_384;
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
    list: BTreeMap<u64, (Wanted, Arc<Queue>)>,
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
    /// The domains of the events before those, in their order.
    dropped: VecDeque<Arc<str>>,
    /// The number of the next event.
    next: u64,
}

impl History {
    fn push(&mut self, domain: Arc<str>, text: Arc<str>) {
        self.next += 1;
        self.bytes += text.len();
        self.events.push_back((domain, text));
        while self.events.len() > MAX_HISTORY || self.bytes > MAX_HISTORY_BYTES {
            let Some((domain, text)) = self.events.pop_front() else { return };
            self.bytes -= text.len();
            self.dropped.push_back(domain);
            if self.dropped.len() > MAX_DROPPED {
                self.dropped.pop_front();
            }
        }
    }

    /// The number of the first event that is remembered.
    fn first(&self) -> u64 {
        self.next.saturating_sub(self.events.len() as u64)
    }

    /// How many events from this number on are not remembered any more and were `wanted`; those of
    /// unknown domains are counted, too.
    fn lost_since(&self, from: u64, wanted: &Wanted) -> u64 {
        let first = self.first();
        let known_from = first.saturating_sub(self.dropped.len() as u64);
        let skipped = usize::try_from(from.saturating_sub(known_from)).unwrap_or(usize::MAX);
        let known = self.dropped.iter().skip(skipped).filter(|domain| wanted.has(domain)).count();
        known_from.saturating_sub(from).saturating_add(known as u64)
    }

    /// The first event from this number on that is `wanted`, with its number.
    fn next_from(&self, from: u64, wanted: &Wanted) -> Option<(u64, Arc<str>)> {
        let first = self.first();
        let skipped = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let numbered = (from.max(first)..).zip(self.events.iter().skip(skipped));
        let mut wanted = numbered.filter(|(_, (domain, _))| wanted.has(domain));
        wanted.next().map(|(number, (_, text))| (number, Arc::clone(text)))
    }
}

/// The domain whose events a subscriber wants; without one, of all.
#[derive(Clone, Debug)]
struct Wanted(Option<String>);

impl Wanted {
    /// What is of no domain concerns everyone.
    fn has(&self, domain: &str) -> bool {
        domain.is_empty() || self.0.as_ref().is_none_or(|wanted| wanted == domain)
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
    wanted: Wanted,
    queue: Arc<Queue>,
    place: Place,
}

/// Where a subscriber takes its next event from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// From its queue.
    Queue,
    /// From the history, from this number on, until it has caught up: nothing is copied for it, and
    /// nothing that is remembered is left out.
    History(u64),
    /// As that, after the numbers of another daemon.
    AnotherDaemon,
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
            if wanted.has(&domain) {
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
        let mut subscribers = self.lock();
        let next = subscribers.history.next;
        let is_own = |from: &Cursor| from.epoch.as_ref().is_none_or(|epoch| *epoch == self.epoch);
        let place = match from {
            None => Place::Queue,
            Some(from) if is_own(from) && from.number <= next => Place::History(from.number),
            // How many events another daemon had is not known.
            Some(_) => Place::AnotherDaemon,
        };
        let number = subscribers.next;
        subscribers.next += 1;
        subscribers.open += 1;
        let (wanted, queue) = (Wanted(domain), Arc::default());
        let subscription = Subscription { hub: Arc::clone(self), number, wanted, queue, place };
        if place == Place::Queue {
            subscribers.enlist(&subscription);
        }
        (subscription, self.at(next))
    }

    /// The daemon ends: every subscription does once its last event is taken, which says so. Waits for
    /// them, at most for `limit`.
    pub(crate) fn close(&self, limit: Duration) {
        let mut subscribers = self.lock();
        subscribers.closed = true;
        for (_, queue) in std::mem::take(&mut subscribers.list).into_values() {
            queue.end();
        }
        let is_open = |subscribers: &mut Subscribers| subscribers.open > 0;
        let waited = self.left.wait_timeout_while(subscribers, limit, is_open);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Subscribers {
    /// Has events go into the subscriber's queue from now on; the last one, if the daemon ends.
    fn enlist(&mut self, subscription: &Subscription) {
        let queue = Arc::clone(&subscription.queue);
        if self.closed {
            return queue.end();
        }
        self.list.insert(subscription.number, (subscription.wanted.clone(), queue));
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

    /// Adds the last event, which says that no more come.
    fn end(&self) {
        let (nobody, last) =
            (Arc::<str>::from(""), Arc::<str>::from(line_of("", Event::DaemonEnds)));
        let mut state = self.lock();
        let share = state.shares.entry(Arc::clone(&nobody)).or_default();
        share.events += 1;
        share.bytes += last.len();
        state.events.push_back((nobody, Queued::Line(last)));
        state.closed = true;
        drop(state);
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
    /// The next event of the history; `None` once it has caught up.
    fn next_of_history(&mut self) -> Option<Arc<str>> {
        let hub = Arc::clone(&self.hub);
        let mut subscribers = hub.lock();
        let history = &subscribers.history;
        let lost = |events| {
            let domain = self.wanted.0.as_deref().unwrap_or_default();
            Some(line_of(domain, Event::Lost { events }).into())
        };
        let from = match self.place {
            Place::Queue => return None,
            Place::AnotherDaemon => {
                self.place = Place::History(history.first());
                return lost(None);
            }
            Place::History(from) => from,
        };
        let missed = history.lost_since(from, &self.wanted);
        if missed > 0 {
            self.place = Place::History(history.first());
            return lost(Some(missed));
        }
        if let Some((number, text)) = history.next_from(from, &self.wanted) {
            self.place = Place::History(number + 1);
            return Some(text);
        }
        self.place = Place::Queue;
        subscribers.enlist(self);
        None
    }

    /// Waits for the next event.
    pub(super) fn next(&mut self, limit: Duration) -> Next {
        if let Some(text) = self.next_of_history() {
            return Next::Line(text);
        }
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
pub(super) mod tests {
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
        let (mut all, mut one) = (all_of(&hub), hub.subscribe(Some("b".to_owned()), None).0);
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
    }

    #[test]
    fn a_subscriber_that_comes_after_the_end_learns_of_it() {
        let hub = Hub::new();
        hub.send("a", &event("1"));
        hub.close(NOW);
        let mut late = all_of(&hub);
        assert_eq!(taken(&mut late).pop().unwrap().event, Event::DaemonEnds);
        assert!(matches!(late.next(NOW), Next::Closed));
        let mut later = hub.subscribe(Some("a".to_owned()), Some(&first_of(&hub))).0;
        let events: Vec<Event> = taken(&mut later).into_iter().map(|l| l.event).collect();
        assert_eq!(events, [event("1"), Event::DaemonEnds]);
        assert!(matches!(later.next(NOW), Next::Closed));
    }

    fn first_of(hub: &Hub) -> Cursor {
        Cursor { epoch: Some(hub.epoch.clone()), number: 0 }
    }

    #[test]
    fn what_is_of_no_domain_concerns_every_subscriber() {
        let hub = Hub::new();
        let mut one = hub.subscribe(Some("b".to_owned()), None).0;
        hub.send("", &event("1"));
        assert_eq!(taken(&mut one).len(), 1);
        let mut later = hub.subscribe(Some("b".to_owned()), Some(&first_of(&hub))).0;
        assert_eq!(taken(&mut later).len(), 1);
    }

    #[test]
    fn a_subscriber_of_one_domain_misses_events_of_that_one_only() {
        let hub = Hub::new();
        hub.send("a", &event("1"));
        (0..3).for_each(|_| hub.send("b", &Event::Connected));
        (0..MAX_HISTORY).for_each(|_| hub.send("c", &Event::Connected));
        let lost = |domain: &str, number| {
            let from = Cursor { number, ..first_of(&hub) };
            let mut late = hub.subscribe(Some(domain.to_owned()), Some(&from)).0;
            let first = taken(&mut late).into_iter().next().map(|line| line.event);
            match first {
                Some(Event::Lost { events }) => events,
                _ => None,
            }
        };
        assert_eq!((lost("a", 0), lost("a", 1)), (Some(1), None));
        assert_eq!((lost("b", 0), lost("b", 2), lost("b", 4)), (Some(3), Some(2), None));
        assert_eq!((lost("c", 0), lost("d", 0)), (None, None));
        // Of those that came long before, the domains are not known: at most so many.
        (0..MAX_DROPPED).for_each(|_| hub.send("c", &Event::Connected));
        assert_eq!(lost("a", 1), Some(3));
        assert_eq!(hub.lock().history.dropped.len(), MAX_DROPPED);
    }

    #[test]
    fn a_subscriber_that_catches_up_has_nothing_in_its_queue() {
        let hub = Hub::new();
        (0..MAX_HISTORY).for_each(|_| hub.send("a", &Event::Connected));
        let mut late = hub.subscribe(None, Some(&first_of(&hub))).0;
        // It has taken nothing yet: what comes now is not left out either.
        (0..10).for_each(|_| hub.send("b", &event("new")));
        assert!(late.queue.lock().events.is_empty());
        let lines = taken(&mut late);
        assert_eq!(lines[0].event, Event::Lost { events: Some(10) });
        assert_eq!(lines.len(), MAX_HISTORY + 1);
        assert!(lines.iter().rev().take(10).all(|line| line.domain == "b"));
    }

    /// What the subscriber has to take, by domain and word.
    pub(in crate::control) fn taken(from: &mut Subscription) -> Vec<EventLine> {
        let mut lines = Vec::new();
        while let Next::Line(text) = from.next(NOW) {
            lines.push(serde_json::from_str(&text).unwrap());
        }
        lines
    }

    #[test]
    fn a_domain_that_floods_loses_its_own_events_in_order() {
        let hub = Hub::new();
        let mut all = all_of(&hub);
        hub.send("quiet", &event("before"));
        for _ in 0..MAX_BACKLOG * 2 {
            hub.send("flood", &Event::Connected);
        }
        hub.send("quiet", &event("after"));
        let lines = taken(&mut all);
        let of = |domain| lines.iter().filter(move |l| l.domain == domain).map(|l| &l.event);
        assert!(of("quiet").eq(&[event("before"), event("after")]));
        let lost = u64::try_from(MAX_BACKLOG * 2 - MAX_BACKLOG_OF_ONE).unwrap();
        assert_eq!(of("flood").count(), MAX_BACKLOG_OF_ONE + 1);
        assert_eq!(of("flood").next_back(), Some(&Event::Lost { events: Some(lost) }));
        assert_eq!(lines.last().unwrap().domain, "quiet", "in order");
        hub.send("flood", &Event::Connected);
        assert_eq!(taken(&mut all).pop().unwrap().event, Event::Connected, "there is room again");
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
        let (mut one, next) = hub.subscribe(Some("b".to_owned()), Some(&from(4)));
        assert_eq!(next, from(10));
        hub.send("b", &event("10"));
        let lines = taken(&mut one);
        let numbers: Vec<u64> = lines.iter().map(|l| l.at.as_ref().unwrap().number).collect();
        assert_eq!(numbers, [5, 7, 9, 10], "once each, in order");
        assert!(
            taken(&mut hub.subscribe(None, Some(&from(11))).0).is_empty(),
            "nothing was missed"
        );
        // Without an epoch the number is this daemon's.
        let bare = Cursor { epoch: None, number: 10 };
        assert_eq!(taken(&mut hub.subscribe(None, Some(&bare)).0).len(), 1);
    }

    #[test]
    fn what_is_not_remembered_any_more_is_lost() {
        let hub = Hub::new();
        let many = MAX_HISTORY as u64 + 5;
        (0..many).for_each(|_| hub.send("a", &Event::Connected));
        let from = |number| Cursor { epoch: Some(hub.epoch.clone()), number };
        let lines = taken(&mut hub.subscribe(None, Some(&from(2))).0);
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
            let lines = taken(&mut hub.subscribe(None, Some(&from)).0);
            assert_eq!(lines[0].event, Event::Lost { events: None }, "{from}");
            assert_eq!((lines.len(), lines[0].domain.as_str()), (4, ""));
        }
    }
}
