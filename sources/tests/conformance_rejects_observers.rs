//! The suite for observers finds each rule that one breaks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use domstat_layout::latest::{Memory, RunState, Runstate};
use domstat_layout::sink::{DomSink, VcpuSink};
use domstat_layout::{Clock, Group, Ns, Word};
use domstat_sources::conformance::{check_observer, check_observer_within};
use domstat_sources::contract::{
    Command, ControlError, Description, ErrorCode, Event, Observation, Observer, ObserverStatus,
    Publisher, Sinks, SourceError,
};

/// The rule that a made observer breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breaks {
    Nothing,
    /// 11: it publishes under another name than it described.
    Name,
    /// 12: two regions exist at a time.
    OneRegion,
    /// 13: it does not notify.
    Notify,
    /// 14: it says nothing of the end.
    Gone,
    /// 15: a command stays without an answer.
    Answer,
    /// 16: it retires the domain while it is there.
    Retires,
    /// 17: it does not end.
    Ends,
    /// 17: it writes after its end.
    Writes,
    /// 7: it writes a group of which it knows nothing.
    Unknown,
}

struct Made(Breaks);

struct Observed {
    commands: Mutex<Sender<Command>>,
    stop: Arc<AtomicBool>,
    status: Arc<Mutex<ObserverStatus>>,
    thread: JoinHandle<()>,
}

impl Observation for Observed {
    fn address(&self) -> &Path {
        Path::new("made")
    }
    fn status(&self) -> ObserverStatus {
        self.status.lock().unwrap().clone()
    }
    fn command(&self, command: Command) {
        let _ = self.commands.lock().unwrap().send(command);
    }
    fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }
    fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Observer for Made {
    fn observe<P: Publisher>(self, mut publisher: P) -> Result<Box<dyn Observation>, SourceError> {
        let (commands, inbox) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let status = Arc::new(Mutex::new(ObserverStatus::default()));
        let (stopped, known, breaks) = (Arc::clone(&stop), Arc::clone(&status), self.0);
        let thread = std::thread::spawn(move || {
            let Sinks { mut dom, mut vcpus, unpublished, .. } =
                publisher.create(&description()).unwrap();
            let other = (breaks == Breaks::OneRegion).then(|| publisher.create(&description()));
            let vcpu = vcpus.first_mut().unwrap();
            let began = now();
            write(vcpu, began);
            if breaks == Breaks::Unknown {
                dom.write(&Memory::NOT_PRODUCED, now());
            }
            let name = if breaks == Breaks::Name { "other" } else { "made" };
            let region = publisher.publish(name, unpublished).unwrap();
            drop(other);
            known.lock().unwrap().domain = Some("made".to_owned());
            if breaks != Breaks::Notify {
                publisher.notify(&region);
            }
            publisher.event("made", &Event::Published);
            let mut rounds = 0;
            while !stopped.load(Ordering::SeqCst) || breaks == Breaks::Ends {
                for command in inbox.try_iter() {
                    answer(command, breaks);
                }
                rounds += 1;
                write(vcpu, began);
                if breaks == Breaks::Retires && rounds > 20 {
                    known.lock().unwrap().domain = None;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(region);
            if breaks != Breaks::Gone {
                publisher.event("made", &Event::Gone);
            }
            if breaks == Breaks::Writes {
                // From a thread that it left behind.
                let mut late = vcpus.remove(0);
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(50));
                    write(&mut late, began);
                });
            }
        });
        Ok(Box::new(Observed { commands: Mutex::new(commands), stop, status, thread }))
    }
}

/// Answers, unless that is what it breaks; the reply is kept, so that it is not dropped either.
fn answer(command: Command, breaks: Breaks) {
    let error = || Err(ControlError::new(ErrorCode::NoJob, "none"));
    match command {
        Command::Jobs(reply) if breaks == Breaks::Answer => std::mem::forget(reply),
        Command::Jobs(reply) => drop(reply.send(Ok(Vec::new()))),
        Command::Disks(reply) => drop(reply.send(Ok(Vec::new()))),
        Command::AbortJob { reply, .. } => drop(reply.send(error())),
        _ => {}
    }
}

fn now() -> Ns {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Ns(u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap())
}

/// The times sum to the time since it began, exactly.
fn write(vcpu: &mut impl VcpuSink, began: Ns) {
    let now = now();
    let runstate = Runstate {
        state: RunState::Running.into(),
        state_entry_ns: Word::NOT_PRODUCED,
        running_ns: now.since(began).into(),
        runnable_ns: 0.into(),
        blocked_ns: 0.into(),
        offline_ns: 0.into(),
    };
    vcpu.write(&runstate, now);
}

fn description() -> Description {
    Description {
        source: "made",
        domid: None,
        uuid: None,
        name: "made".to_owned(),
        created: None,
        nr_vcpus: 1,
        nr_blks: 0,
        nr_nets: 0,
        clock: Clock::Monotonic,
        arch_dom: Vec::new(),
        arch_vcpu: Vec::new(),
        optional: domstat_sources::Optional::default(),
        labels: Vec::new(),
    }
}

#[test]
fn an_observer_that_keeps_the_contract_passes() {
    let report = check_observer(Made(Breaks::Nothing), Duration::from_millis(100)).unwrap();
    assert!(report.vcpu_writes > 10, "{report:?}");
    assert_eq!(report.events, [Event::Published, Event::Gone]);
}

#[test]
fn each_rule_that_is_broken_is_found() {
    let broken = [
        (Breaks::Unknown, 7),
        (Breaks::Name, 11),
        (Breaks::OneRegion, 12),
        (Breaks::Notify, 13),
        (Breaks::Gone, 14),
        (Breaks::Retires, 16),
        (Breaks::Ends, 17),
        (Breaks::Writes, 17),
    ];
    for (breaks, rule) in broken {
        let violation = check_observer(Made(breaks), Duration::from_millis(100)).unwrap_err();
        assert_eq!(violation.rule(), Some(rule), "{breaks:?}: {violation}");
    }
}

#[test]
fn a_command_without_an_answer_is_found() {
    let limit = Duration::from_millis(200);
    let violation = check_observer_within(Made(Breaks::Answer), Duration::ZERO, limit).unwrap_err();
    assert_eq!(violation.rule(), Some(15), "{violation}");
}
