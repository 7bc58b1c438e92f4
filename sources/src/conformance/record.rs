//! Sinks that record.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use domstat_layout::descriptor::FieldDesc;
use domstat_layout::sink::{BlkShareSink, BlkSink, DomSink, NetSink, VcpuSink};
use domstat_layout::{
    BlkGroup, BlkHistGroup, BlkQueueGroup, Clock, DomGroup, Group, GroupDesc, HistogramGroup,
    NetGroup, Ns, VcpuGroup, VcpuHistGroup, Word,
};

use crate::host::{now, thread_id};

/// Which record a write went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Dom,
    Vcpu(u32),
    Blk(u32),
    Net(u32),
    Share(u32),
    /// Distributions of a vCPU, of a block device.
    VcpuHist(u32),
    BlkHist(u32),
}

/// What was done.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Write {
        group: &'static GroupDesc,
        now: Ns,
        words: Vec<Word>,
    },
    /// A value was added to a distribution.
    Record {
        group: &'static GroupDesc,
        now: Ns,
    },
    Deactivate {
        group: &'static GroupDesc,
    },
    Renew,
}

/// One call of a sink. Its place in the log is its order.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) target: Target,
    pub(super) action: Action,
    /// The thread that did it.
    pub(super) tid: i32,
    /// When, on the source's clock.
    pub(super) at: Ns,
    /// Whether [`crate::Source::start`] had returned.
    pub(super) started: bool,
}

/// What the sinks of one run have recorded.
#[derive(Clone)]
pub(super) struct Log {
    clock: Clock,
    began: Ns,
    events: Arc<Mutex<(bool, Vec<Event>)>>,
    /// Whether the region that it records exists.
    held: Arc<AtomicUsize>,
}

impl Log {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, began: now(clock), events: Arc::default(), held: Arc::default() }
    }

    /// When recording began.
    pub(super) fn began(&self) -> Ns {
        self.began
    }

    /// The region exists until the count is taken back.
    pub(super) fn hold(&self) -> Arc<AtomicUsize> {
        // ORDERING: see `Held`.
        self.held.fetch_add(1, Ordering::Relaxed);
        Arc::clone(&self.held)
    }

    /// Whether the region exists.
    pub(super) fn is_held(&self) -> bool {
        // ORDERING: see `Held`.
        self.held.load(Ordering::Relaxed) > 0
    }

    pub(super) fn now(&self) -> Ns {
        now(self.clock)
    }

    pub(super) fn mark_started(&self) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).0 = true;
    }

    pub(super) fn len(&self) -> usize {
        self.with(<[Event]>::len)
    }

    pub(super) fn with<T>(&self, f: impl FnOnce(&[Event]) -> T) -> T {
        f(&self.events.lock().unwrap_or_else(PoisonError::into_inner).1)
    }

    fn push(&self, target: Target, action: Action) {
        let (tid, at) = (thread_id(), self.now());
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let started = events.0;
        events.1.push(Event { target, action, tid, at, started });
    }

    fn write<G: Group>(&self, target: Target, group: &G, now: Ns) {
        let (words, _) = group.as_bytes().as_chunks::<8>();
        let words = words.iter().map(|&word| Word::from_raw(u64::from_ne_bytes(word))).collect();
        self.push(target, Action::Write { group: G::DESC, now, words });
    }
}

/// Every word of a group: its field, and its index in that.
pub(super) fn all_words(
    group: &'static GroupDesc,
    words: &[Word],
) -> impl Iterator<Item = (&'static FieldDesc, usize, Word)> {
    let places =
        group.fields.iter().flat_map(|field| (0..field.width / 8).map(move |i| (field, i)));
    places.zip(words).map(|((field, index), word)| (field, index, *word))
}

/// The single-word fields of a group with their values.
pub(super) fn fields(
    group: &'static GroupDesc,
    words: &[Word],
) -> impl Iterator<Item = (&'static FieldDesc, Word)> {
    let mut at = 0usize;
    group.fields.iter().filter_map(move |field| {
        let word = words.get(at).copied();
        at = at.saturating_add(field.width / 8);
        word.filter(|_| field.width == 8).map(|word| (field, word))
    })
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target {
            Target::Dom => f.write_str("the dom record"),
            Target::Vcpu(index) => write!(f, "vCPU {index}"),
            Target::Blk(index) => write!(f, "block device {index}"),
            Target::Net(index) => write!(f, "interface {index}"),
            Target::Share(index) => write!(f, "share {index}"),
            Target::VcpuHist(index) => write!(f, "the distributions of vCPU {index}"),
            Target::BlkHist(index) => write!(f, "the distributions of block device {index}"),
        }?;
        match &self.action {
            Action::Write { group, now, .. } => {
                write!(f, ": {} written as of {} ns", group.name, now.0)
            }
            Action::Record { group, now } => {
                write!(f, ": {} recorded as of {} ns", group.name, now.0)
            }
            Action::Deactivate { group } => write!(f, ": {} deactivated", group.name),
            Action::Renew => f.write_str(": slot renewed"),
        }?;
        write!(f, " by thread {} at {} ns", self.tid, self.at.0)
    }
}

/// Records what is written to the dom record.
pub(super) struct RecordingDom(Log);

impl RecordingDom {
    pub(super) fn new(log: &Log) -> Self {
        Self(log.clone())
    }
}

impl DomSink for RecordingDom {
    fn write<G: DomGroup>(&mut self, group: &G, now: Ns) {
        self.0.write(Target::Dom, group, now);
    }
    fn deactivate<G: DomGroup>(&mut self) {
        self.0.push(Target::Dom, Action::Deactivate { group: G::DESC });
    }
}

/// Records what is written to one record of an array.
macro_rules! recording {
    ($(#[doc = $doc:literal])+ $name:ident, $sink:ident, $group:ident, $target:ident $($more:item)*) => {
        $(#[doc = $doc])+
        pub(super) struct $name {
            log: Log,
            target: Target,
            #[allow(dead_code, reason = "not every record has distributions")]
            index: u32,
        }

        impl $name {
            pub(super) fn new(log: &Log, index: u32) -> Self {
                Self { log: log.clone(), target: Target::$target(index), index }
            }
        }

        impl $sink for $name {
            fn write<G: $group>(&mut self, group: &G, now: Ns) {
                self.log.write(self.target, group, now);
            }
            fn deactivate<G: $group>(&mut self) {
                self.log.push(self.target, Action::Deactivate { group: G::DESC });
            }
            fn renew(&mut self) {
                self.log.push(self.target, Action::Renew);
                recording!(@renew $target self);
            }
            $($more)*
        }
    };
    (@renew Vcpu $self:ident) => {
        $self.log.push(Target::VcpuHist($self.index), Action::Renew)
    };
    (@renew Blk $self:ident) => {
        $self.log.push(Target::BlkHist($self.index), Action::Renew)
    };
    (@renew $other:ident $self:ident) => {};
}

recording! {
    /// Records what is written to one vCPU's record.
    RecordingVcpu, VcpuSink, VcpuGroup, Vcpu
    fn write_hist<G: VcpuHistGroup>(&mut self, group: &G, now: Ns) {
        self.log.write(Target::VcpuHist(self.index), group, now);
    }
    fn record<G: VcpuHistGroup + HistogramGroup>(&mut self, _: u64, now: Ns) {
        let group = G::DESC;
        self.log.push(Target::VcpuHist(self.index), Action::Record { group, now });
    }
}

recording! {
    /// Records what is written to one block device's record.
    RecordingBlk, BlkSink, BlkGroup, Blk
    fn write_hist<G: BlkHistGroup>(&mut self, group: &G, now: Ns) {
        self.log.write(Target::BlkHist(self.index), group, now);
    }
    fn deactivate_hist<G: BlkHistGroup>(&mut self) {
        let group = G::DESC;
        self.log.push(Target::BlkHist(self.index), Action::Deactivate { group });
    }
}

recording! {
    /// Records what is written to one interface's record.
    RecordingNet, NetSink, NetGroup, Net
}

recording! {
    /// Records what is written to one share of a block device.
    RecordingShare, BlkShareSink, BlkQueueGroup, Share
}
