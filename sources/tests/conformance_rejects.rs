//! The conformance suite names the broken rule of sources that break one each.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use domstat_layout::latest::{Identity, Memory, RunState, Runstate};
use domstat_layout::sink::{DomSink, VcpuSink};
use domstat_layout::{Clock, Group, Ns, Word};
use domstat_sources::conformance::{Violation, check};
use domstat_sources::{Description, Progress, Running, Source, SourceError};

/// What a source does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    Name,
    NothingAtStart,
    OneVcpuLate,
    MemoryLate,
    Identity,
    TimeBackwards,
    TimeOfAnotherClock,
    CounterBackwards,
    SumOff,
    TimeMissing,
    BeganTooEarly,
    StateOutOfRange,
    MemoryEmpty,
    ReuseWithoutRenew,
    IntervalZero,
    WriteAfterStop,
    WriteAfterEnd,
    ThreadLeft,
    TickFails,
}

const CASES: &[(Wrong, Option<u8>)] = &[
    (Wrong::Name, Some(1)),
    (Wrong::NothingAtStart, Some(2)),
    (Wrong::OneVcpuLate, Some(2)),
    (Wrong::MemoryLate, Some(2)),
    (Wrong::Identity, Some(3)),
    (Wrong::TimeBackwards, Some(4)),
    (Wrong::TimeOfAnotherClock, Some(4)),
    (Wrong::CounterBackwards, Some(5)),
    (Wrong::SumOff, Some(6)),
    (Wrong::TimeMissing, Some(6)),
    (Wrong::BeganTooEarly, Some(6)),
    (Wrong::StateOutOfRange, Some(7)),
    (Wrong::MemoryEmpty, Some(7)),
    (Wrong::ReuseWithoutRenew, Some(8)),
    (Wrong::IntervalZero, Some(9)),
    (Wrong::WriteAfterStop, Some(10)),
    (Wrong::WriteAfterEnd, Some(10)),
    (Wrong::ThreadLeft, Some(10)),
    (Wrong::TickFails, None),
];

/// One test, because the suite wants no other thread of the process to start threads meanwhile.
#[test]
fn each_broken_rule_is_named() {
    let run = |wrong| check(move || Ok(Fake::new(wrong)), Duration::from_millis(300));
    let report = run(Wrong::Nothing).unwrap();
    assert_eq!((report.vcpus_written, report.ended), (2, false));
    for &(wrong, rule) in CASES {
        let violation = run(wrong).expect_err(&format!("{wrong:?} passed"));
        assert_eq!(violation.rule(), rule, "{wrong:?}: {violation}");
        assert_eq!(matches!(violation, Violation::Failed(_)), rule.is_none());
    }
}

fn clock(id: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(id);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

fn now() -> u64 {
    clock(rustix::time::ClockId::Monotonic)
}

struct Fake {
    wrong: Wrong,
    created: u64,
}

impl Fake {
    fn new(wrong: Wrong) -> Self {
        Self { wrong, created: now() - 1_000_000_000 }
    }
}

struct RunningFake<D, V> {
    fake: Fake,
    dom: D,
    vcpus: Vec<V>,
    ticks: u64,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Source for Fake {
    fn describe(&self) -> Description {
        Description {
            source: "fake",
            domid: None,
            uuid: None,
            name: if self.wrong == Wrong::Name { "a/b" } else { "fake" }.to_owned(),
            created: Some(Ns(self.created)),
            nr_vcpus: 2,
            nr_blks: 0,
            nr_nets: 0,
            clock: Clock::Monotonic,
            arch_dom: Vec::new(),
            arch_vcpu: Vec::new(),
            optional: domstat_sources::Optional::default(),
            labels: Vec::new(),
        }
    }

    fn start<D, V>(self, dom: D, mut vcpus: Vec<V>) -> Result<Box<dyn Running>, SourceError>
    where
        D: DomSink + 'static,
        V: VcpuSink + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = match self.wrong {
            Wrong::WriteAfterStop => {
                let (stop, created, mut vcpu) = (Arc::clone(&stop), self.created, vcpus.remove(1));
                vcpu.write(&blocked(now() - created), Ns(now()));
                Some(std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    std::thread::sleep(Duration::from_millis(20));
                    let now = now();
                    vcpu.write(&blocked(now - created), Ns(now));
                }))
            }
            Wrong::ThreadLeft => {
                Some(std::thread::spawn(|| std::thread::sleep(Duration::from_secs(4))))
            }
            _ => None,
        };
        let mut running = RunningFake { fake: self, dom, vcpus, ticks: 0, stop, thread };
        if running.fake.wrong != Wrong::NothingAtStart {
            running.write_all();
        }
        Ok(Box::new(running))
    }
}

/// Blocked all the time.
fn blocked(age: u64) -> Runstate {
    Runstate {
        state: RunState::Blocked.into(),
        state_entry_ns: Word::NOT_PRODUCED,
        running_ns: 0.into(),
        runnable_ns: 0.into(),
        blocked_ns: age.into(),
        offline_ns: 0.into(),
    }
}

impl<D: DomSink, V: VcpuSink> RunningFake<D, V> {
    fn write_all(&mut self) {
        let wrong = self.fake.wrong;
        let later = self.ticks > 2;
        if wrong != Wrong::MemoryLate || later {
            let memory = Memory { rss_bytes: 4096.into(), ..Memory::NOT_PRODUCED };
            let memory = if wrong == Wrong::MemoryEmpty { Memory::NOT_PRODUCED } else { memory };
            self.dom.write(&memory, Ns(now()));
        }
        if wrong == Wrong::Identity {
            self.dom.write(&Identity::NOT_PRODUCED, Ns(now()));
        }
        for (index, vcpu) in self.vcpus.iter_mut().enumerate() {
            if wrong == Wrong::OneVcpuLate && index == 1 && !later {
                continue;
            }
            let mut now = now();
            if wrong == Wrong::TimeBackwards && self.ticks == 3 {
                now -= 500_000_000;
            }
            if wrong == Wrong::TimeOfAnotherClock {
                now = clock(rustix::time::ClockId::Realtime);
            }
            let age = now - self.fake.created;
            let mut runstate = blocked(age);
            match wrong {
                Wrong::CounterBackwards => {
                    let other = if self.ticks == 3 { 1 } else { 1_000 };
                    runstate.running_ns = other.into();
                    runstate.blocked_ns = (age - other).into();
                }
                Wrong::SumOff if later => runstate.offline_ns = self.ticks.into(),
                Wrong::TimeMissing if later => runstate.offline_ns = Word::NOT_PRODUCED,
                Wrong::BeganTooEarly => runstate.blocked_ns = (age + 1).into(),
                Wrong::StateOutOfRange => runstate.state = 4.into(),
                Wrong::ReuseWithoutRenew if later => {
                    vcpu.deactivate::<Runstate>();
                    runstate.blocked_ns = 1.into();
                }
                _ => {}
            }
            vcpu.write(&runstate, Ns(now));
        }
    }
}

impl<D: DomSink, V: VcpuSink> Running for RunningFake<D, V> {
    fn interval(&self) -> Duration {
        let zero = self.fake.wrong == Wrong::IntervalZero;
        Duration::from_millis(if zero { 0 } else { 10 })
    }

    fn tick(&mut self) -> Result<Progress, SourceError> {
        self.ticks += 1;
        if self.fake.wrong == Wrong::TickFails {
            return Err(SourceError::NoSuchProcess { pid: 1 });
        }
        self.write_all();
        let ends = self.fake.wrong == Wrong::WriteAfterEnd && self.ticks > 3;
        Ok(if ends { Progress::Ended } else { Progress::Continue })
    }

    fn stop(self: Box<Self>) {}
}

impl<D, V> Drop for RunningFake<D, V> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wrong on purpose: the thread is not waited for.
        drop(self.thread.take());
    }
}
