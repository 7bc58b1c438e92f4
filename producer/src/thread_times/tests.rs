#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use domstat_layout::Stat;
use domstat_layout::latest::Exits;
use domstat_layout::runstate_estimator::{RUN_AHEAD_NS, WAIT_AHEAD_NS};

use super::*;

fn times(sample: &ThreadSample) -> [u64; 4] {
    let r = sample.runstate;
    [r.running_ns, r.runnable_ns, r.blocked_ns, r.offline_ns].map(|word| word.value().unwrap())
}

/// Runs `work` in a thread, and then `judge` with the thread's times and its CPU time, while it waits.
fn of_a_thread(work: impl FnOnce() + Send, judge: impl FnOnce(ThreadTimes, u64)) {
    let (open, opened) = mpsc::channel();
    let (done, worked) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let own = ClockId::CLOCK_THREAD_CPUTIME_ID;
            let before = read_clock(own).unwrap();
            open.send(ThreadTimes::of_current_thread(Clock::Monotonic).unwrap()).unwrap();
            work();
            done.send(read_clock(own).unwrap() - before).unwrap();
            let _ = ended.recv();
        });
        let times = opened.recv().unwrap();
        judge(times, worked.recv().unwrap());
        drop(end);
    });
}

#[test]
fn times_are_those_of_the_kernels_books() {
    let work = || {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(200) {}
        std::thread::sleep(Duration::from_millis(200));
    };
    of_a_thread(work, |mut thread, cpu_ns| {
        if !thread.sees_steal() {
            return eprintln!("skipped: no scheduler statistics here");
        }
        // It sleeps now, so its counters are up to date; work that is left over is shared out.
        let first = thread.sample().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let second = thread.sample().unwrap();
        for (before, after) in times(&first).into_iter().zip(times(&second)) {
            assert!(before <= after, "{first:?} {second:?}");
        }
        let [running, runnable, blocked, offline] = times(&second);
        let slack = RUN_AHEAD_NS + 5_000_000;
        assert!(running.abs_diff(cpu_ns) < slack, "{cpu_ns} ns of CPU time: {second:?}");
        assert!(blocked + WAIT_AHEAD_NS >= 200_000_000 && offline == 0, "{second:?}");
        let grown = times(&first).iter().sum::<u64>() + second.now.since(first.now);
        assert_eq!(running + runnable + blocked + offline, grown);
        assert!(second.sched.time_ns.value() >= Some(running.saturating_sub(slack)));
    });
}

#[test]
fn without_proc_the_cpu_clock_remains() {
    let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
    // As where /proc is missing, and as where it is not to be looked at.
    let missing = Files::open("/proc/none");
    let mut thread = ThreadTimes::of(tid, missing, Clock::Monotonic).unwrap();
    assert!(!ThreadTimes::of_cpu_clock(tid, Clock::Monotonic).unwrap().sees_steal());
    assert!(!thread.sees_steal());
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(20) {}
    let before = read_clock(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    let sample = thread.sample().unwrap();
    let runstate = sample.runstate;
    assert!(runstate.running_ns.value().unwrap() > 0);
    assert!(sample.sched.time_ns.value().unwrap() >= before);
    for word in [runstate.state, runstate.runnable_ns, runstate.blocked_ns, sample.sched.delay_ns] {
        assert_eq!(word.get(), Stat::NotProduced);
    }
}

#[test]
fn a_thread_that_exited_is_an_error() {
    let tid = || rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
    let thread = std::thread::spawn(move || {
        let times = ThreadTimes::of_current_thread(Clock::Monotonic).unwrap();
        let clock = ThreadTimes::of_cpu_clock(tid(), Clock::Monotonic).unwrap();
        [times, clock]
    });
    for mut times in thread.join().unwrap() {
        // The kernel may take a moment to remove a thread that was joined.
        let until = Instant::now() + Duration::from_secs(10);
        while times.sample().is_ok() {
            assert!(Instant::now() < until, "{times:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for tid in [MAX_TID, MAX_TID + 1, u32::MAX] {
        assert!(ThreadTimes::open(tid, Clock::Monotonic).is_err());
    }
    assert!(ThreadTimes::of_current_thread(Clock::XenSystemTime).is_err());
}

#[test]
fn lines_are_parsed_whatever_a_thread_is_called() {
    let reading = parse(b"10 20 3\n", b"7 (a) R b) S 1 7 7 0").unwrap();
    let expected = Reading { run_ns: 10, wait_ns: 20, timeslices: 3, activity: Activity::Waits };
    assert_eq!(reading, expected);
    for (schedstat, stat) in
        [("", "7 (a) S 1"), ("1 2", "7 (a) S 1"), ("1 2 3", "7 a S"), ("1 2 3", "7 (a)")]
    {
        assert_eq!(parse(schedstat.as_bytes(), stat.as_bytes()), None, "{schedstat:?} {stat:?}");
    }
}

/// A file as the kernel's statistics descriptor is, with these names and values.
fn stats(name_len: u32, stats: &[(&str, u64)]) -> OwnedFd {
    let nr = u32::try_from(stats.len()).unwrap();
    let descs = 32;
    let data = descs + nr * (16 + name_len);
    let mut bytes: Vec<u8> = [0, name_len, nr, 24, descs, data]
        .iter()
        .flat_map(|word: &u32| word.to_ne_bytes())
        .collect();
    bytes.resize(32, 0);
    for (i, (name, _)) in (0u32..).zip(stats) {
        for word in [0, 1 << 16, 8 * i, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        let mut name = name.as_bytes().to_vec();
        name.resize(name_len as usize, 0);
        bytes.extend(name);
    }
    bytes.extend(stats.iter().flat_map(|(_, value)| value.to_ne_bytes()));
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    file.into()
}

#[test]
fn exits_are_found_by_their_names() {
    let fd = stats(48, &[("pf_fixed", 9), ("halt_exits", 5), ("exits", 7), ("exits_more", 8)]);
    let exits = KvmExits::open(fd).unwrap().sample().unwrap();
    let expected = Exits { exits: Word::from(7), halt_exits: Word::from(5), ..Exits::NOT_PRODUCED };
    assert_eq!(exits, expected);
    // None that is known: nothing is produced.
    let none = KvmExits::open(stats(48, &[("pf_fixed", 9)])).unwrap().sample().unwrap();
    assert_eq!(none, Exits::NOT_PRODUCED);
    // Not a descriptor of statistics, or one that promises too much.
    let file = tempfile::tempfile().unwrap();
    assert!(KvmExits::open(file.into()).is_err());
    let mut file = File::from(stats(48, &[("exits", 1)]));
    file.write_all_at(&u32::MAX.to_ne_bytes(), 8).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    assert!(KvmExits::open(file.into()).is_err());
}
