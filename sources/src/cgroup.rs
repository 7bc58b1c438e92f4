//! Control group (cgroup v2) that holds a process: its limits, what they cost, and its pressure.
//!
//! The group is the deepest one that holds all threads of the process, which may be spread over
//! children of it (libvirt puts those of a QEMU into `SCOPE/libvirt/emulator` and
//! `SCOPE/libvirt/vcpuN`). From there the nearest group with a limit is taken, up to the unit of
//! the service manager (`.scope`, `.service`), and the unit if none has one; where no unit is, up
//! to the slice. Limits of slices, which hold many domains, are not looked at.
//!
//! A process in the root group is in none. What v1 hierarchies hold is not produced: on a hybrid
//! host the v2 group has no limits, and its pressure alone is.
//!
//! The files stay open, so that an interval costs one pread(2) for each. Where the process is moved
//! to another group, or the group's limits change, counters go on from where they were.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use domstat_layout::Clock;
use domstat_layout::latest::{Limits, Pressure};
use domstat_layout::sink::DomSink;
use procfs::FromBufRead;
use procfs::process::{MountInfos, Process};

use crate::host::now;

/// How often the group is looked up again, in case a thread of the process or a limit was moved. A
/// process that moves as a whole is noticed at once.
const LOOKUP: Duration = Duration::from_secs(30);
/// Longest file of a group that is read, in bytes: the longest, cpu.stat, has some 500.
const MAX_FILE: usize = 4096;
/// Longest /proc/PID/cgroup that is read, in bytes: a line for each hierarchy, with a path.
const MAX_MEMBERSHIP: u64 = 64 << 10;
/// Longest table of mounts that is read, in bytes: some 200 for each mount.
const MAX_MOUNTS: u64 = 16 << 20;
/// Most threads of the process that are asked for their groups.
const MAX_THREADS: usize = 4096;
/// Most groups on the way to the root: the kernel's limit is 2^31, a path has at most 4,096 bytes.
const MAX_DEPTH: usize = 64;

/// Limits of a control group and what they cost; `None` is not known, 0 no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupLimits {
    pub(crate) cpu_quota_ns: Option<u64>,
    pub(crate) cpu_period_ns: Option<u64>,
    pub(crate) cpu_weight: Option<u64>,
    pub(crate) cpu_periods: Option<u64>,
    pub(crate) cpu_throttled_periods: Option<u64>,
    pub(crate) cpu_throttled_ns: Option<u64>,
    pub(crate) memory_max_bytes: Option<u64>,
    pub(crate) memory_high_bytes: Option<u64>,
    pub(crate) memory_high_events: Option<u64>,
    pub(crate) oom_kills: Option<u64>,
}

/// Pressure stall times of a control group; `None` is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupPressure {
    pub(crate) cpu_some_ns: Option<u64>,
    pub(crate) cpu_full_ns: Option<u64>,
    pub(crate) memory_some_ns: Option<u64>,
    pub(crate) memory_full_ns: Option<u64>,
    pub(crate) io_some_ns: Option<u64>,
    pub(crate) io_full_ns: Option<u64>,
}

impl From<GroupLimits> for Limits {
    fn from(of: GroupLimits) -> Self {
        Self {
            cpu_quota_ns: of.cpu_quota_ns.into(),
            cpu_period_ns: of.cpu_period_ns.into(),
            cpu_weight: of.cpu_weight.into(),
            cpu_periods: of.cpu_periods.into(),
            cpu_throttled_periods: of.cpu_throttled_periods.into(),
            cpu_throttled_ns: of.cpu_throttled_ns.into(),
            memory_max_bytes: of.memory_max_bytes.into(),
            memory_high_bytes: of.memory_high_bytes.into(),
            memory_high_events: of.memory_high_events.into(),
            oom_kills: of.oom_kills.into(),
        }
    }
}

impl From<GroupPressure> for Pressure {
    fn from(of: GroupPressure) -> Self {
        Self {
            cpu_some_ns: of.cpu_some_ns.into(),
            cpu_full_ns: of.cpu_full_ns.into(),
            memory_some_ns: of.memory_some_ns.into(),
            memory_full_ns: of.memory_full_ns.into(),
            io_some_ns: of.io_some_ns.into(),
            io_full_ns: of.io_full_ns.into(),
        }
    }
}

/// The control group that holds one process, looked up again as it changes.
#[derive(Debug)]
pub(crate) struct Cgroup {
    /// The table of mounts to find cgroup v2 in.
    mounts: PathBuf,
    membership: Option<Membership>,
    group: Option<OpenGroup>,
    next_lookup: Option<Instant>,
    counters: Counters,
    /// Whether the limits and the pressure were written last time.
    shown: (bool, bool),
}

/// /proc/PID/cgroup, and what it said when the group was looked up.
#[derive(Debug)]
struct Membership {
    file: File,
    text: String,
}

impl Default for Cgroup {
    fn default() -> Self {
        Self::with_mounts(Path::new("/proc/self/mountinfo"))
    }
}

impl Cgroup {
    fn with_mounts(mounts: &Path) -> Self {
        Self {
            mounts: mounts.to_owned(),
            membership: None,
            group: None,
            next_lookup: None,
            counters: Counters::default(),
            shown: (false, false),
        }
    }

    /// What the group of this process says now; always ask for the same process.
    pub(crate) fn read(&mut self, process: &Process) -> (GroupLimits, GroupPressure) {
        let due = self.next_lookup.is_none_or(|at| at <= Instant::now());
        if due || self.has_moved() {
            self.look_up(process);
        }
        let answer = self.group.as_ref().map(OpenGroup::read).unwrap_or_default();
        if answer.is_removed {
            self.next_lookup = None;
        }
        self.counters.advance(answer)
    }

    /// Writes the groups `limits` and `pressure`, as far as anything of them is known.
    pub(crate) fn write<D: DomSink>(&mut self, process: &Process, dom: &mut D, clock: Clock) {
        let (limits, pressure) = self.read(process);
        let now = now(clock);
        let shown = (limits != GroupLimits::default(), pressure != GroupPressure::default());
        match (shown.0, self.shown.0) {
            (true, _) => dom.write(&Limits::from(limits), now),
            (false, true) => dom.deactivate::<Limits>(),
            (false, false) => {}
        }
        match (shown.1, self.shown.1) {
            (true, _) => dom.write(&Pressure::from(pressure), now),
            (false, true) => dom.deactivate::<Pressure>(),
            (false, false) => {}
        }
        self.shown = shown;
    }

    /// Whether the process was moved since the group was looked up.
    fn has_moved(&self) -> bool {
        let Some(Membership { file, text }) = &self.membership else { return false };
        let mut buffer = [0; MAX_FILE];
        // What is longer is looked at when a lookup is due.
        let now = file.read_at(&mut buffer, 0).ok().and_then(|len| buffer.get(..len));
        text.len() < MAX_FILE && now.is_none_or(|now| now != text.as_bytes())
    }

    fn look_up(&mut self, process: &Process) {
        self.next_lookup = Instant::now().checked_add(LOOKUP);
        self.membership = process.open_relative("cgroup").ok().and_then(|file| {
            let text = read_bounded(&file, MAX_MEMBERSHIP)?;
            Some(Membership { file, text })
        });
        let dir = self.membership.as_ref().and_then(|m| self.group_of(process, &m.text));
        if dir.as_deref() != self.group.as_ref().map(|group| group.dir.as_path()) {
            self.counters.begin_again();
        }
        // Opened again even so: a group may be made again under its old name, or get a controller.
        self.group = dir.map(OpenGroup::open);
    }

    /// The directory of the group whose numbers are the domain's.
    fn group_of(&self, process: &Process, own: &str) -> Option<PathBuf> {
        let mut common = PathBuf::from(unified(own)?);
        for task in process.tasks().ok()?.take(MAX_THREADS).flatten() {
            // A thread that has just ended is in no group.
            let Ok(file) = process.open_relative(format!("task/{}/cgroup", task.tid)) else {
                continue;
            };
            let text = read_bounded(&file, MAX_MEMBERSHIP).unwrap_or_default();
            if let Some(path) = unified(&text) {
                common = common_ancestor(&common, Path::new(path));
            }
        }
        let mounts = File::open(&self.mounts).ok()?;
        let mounts = MountInfos::from_buf_read(BufReader::new(mounts.take(MAX_MOUNTS))).ok()?;
        let (mount, root) = mounts
            .0
            .iter()
            .filter(|mount| mount.fs_type == "cgroup2")
            .filter(|mount| common.starts_with(&mount.root))
            .max_by_key(|mount| mount.root.len())
            .map(|mount| (&mount.mount_point, &mount.root))?;
        let dir = |group: &Path| Some(mount.join(group.strip_prefix(root).ok()?));
        let ways = candidates(&common);
        let limited = ways.iter().filter_map(|group| dir(group)).find(|dir| has_limit(dir));
        limited
            .or_else(|| dir(ways.iter().find(|group| is_unit(group)).or_else(|| ways.first())?))
    }
}

/// The path of the v2 group in a membership: the line of hierarchy 0. `None` if it is the root, or
/// outside of what this process sees (`/../other`).
fn unified(membership: &str) -> Option<&str> {
    let path = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut parts = Path::new(path).components();
    let is_absolute = parts.next() == Some(Component::RootDir);
    let mut parts = parts.peekable();
    let inside = parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)));
    (is_absolute && inside).then_some(path)
}

/// The deepest group that holds both.
fn common_ancestor(one: &Path, other: &Path) -> PathBuf {
    let both = one.components().zip(other.components());
    both.take_while(|(one, other)| one == other).map(|(part, _)| part).collect()
}

/// The groups that may hold the domain's limits, the deepest first: up to the nearest unit, or
/// else to below the nearest slice or the root.
fn candidates(deepest: &Path) -> Vec<&Path> {
    let below_root = |group: &&Path| group.parent().is_some();
    let up: Vec<&Path> = deepest.ancestors().filter(below_root).take(MAX_DEPTH).collect();
    let slice = up.iter().position(|group| has_suffix(group, "slice")).unwrap_or(up.len());
    let unit = up.iter().position(|group| is_unit(group)).map(|unit| unit.saturating_add(1));
    let end = unit.filter(|unit| *unit <= slice).unwrap_or(slice);
    up.into_iter().take(end).collect()
}

fn is_unit(group: &Path) -> bool {
    has_suffix(group, "scope") || has_suffix(group, "service")
}

fn has_suffix(group: &Path, suffix: &str) -> bool {
    group.extension().is_some_and(|found| found == suffix)
}

/// Whether the group itself limits anything.
fn has_limit(dir: &Path) -> bool {
    let limit = |name: &str| {
        let text = File::open(dir.join(name)).ok().and_then(|file| read_bounded(&file, 64))?;
        first_limit(&text)
    };
    ["cpu.max", "memory.max", "memory.high"]
        .into_iter()
        .any(|name| limit(name).is_some_and(|l| l > 0))
}

fn read_bounded(file: &File, most: u64) -> Option<String> {
    let mut text = String::new();
    file.take(most).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The files of one group, as far as it has them.
#[derive(Debug)]
struct OpenGroup {
    dir: PathBuf,
    cpu_max: Option<File>,
    cpu_weight: Option<File>,
    cpu_stat: Option<File>,
    memory_max: Option<File>,
    memory_high: Option<File>,
    memory_events: Option<File>,
    cpu_pressure: Option<File>,
    memory_pressure: Option<File>,
    io_pressure: Option<File>,
}

/// What the files of a group say, counters as the kernel counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answer {
    limits: GroupLimits,
    pressure: GroupPressure,
    is_removed: bool,
}

impl OpenGroup {
    fn open(dir: PathBuf) -> Self {
        let file = |name: &str| File::open(dir.join(name)).ok();
        Self {
            cpu_max: file("cpu.max"),
            cpu_weight: file("cpu.weight"),
            cpu_stat: file("cpu.stat"),
            memory_max: file("memory.max"),
            memory_high: file("memory.high"),
            memory_events: file("memory.events"),
            cpu_pressure: file("cpu.pressure"),
            memory_pressure: file("memory.pressure"),
            io_pressure: file("io.pressure"),
            dir,
        }
    }

    fn read(&self) -> Answer {
        let mut buffer = [0; MAX_FILE];
        let mut answer = Answer::default();
        let mut read = |file: &Option<File>, take: &mut dyn FnMut(&mut Answer, &str)| {
            let Some(file) = file else { return };
            match file.read_at(&mut buffer, 0) {
                Ok(len) => {
                    let text = buffer.get(..len).and_then(|bytes| std::str::from_utf8(bytes).ok());
                    take(&mut answer, text.unwrap_or_default());
                }
                Err(error) => answer.is_removed |= error.raw_os_error() == Some(libc::ENODEV),
            }
        };
        let us = |text: &str, key| keyed(text, key).and_then(|us| us.checked_mul(1000));
        read(&self.cpu_max, &mut |to, text| {
            to.limits.cpu_quota_ns = first_limit(text).and_then(|us| us.checked_mul(1000));
            let period = text.split_ascii_whitespace().nth(1).and_then(|us| us.parse().ok());
            to.limits.cpu_period_ns = period.and_then(|us: u64| us.checked_mul(1000));
        });
        read(&self.cpu_weight, &mut |to, text| to.limits.cpu_weight = text.trim_end().parse().ok());
        read(&self.cpu_stat, &mut |to, text| {
            to.limits.cpu_periods = keyed(text, "nr_periods");
            to.limits.cpu_throttled_periods = keyed(text, "nr_throttled");
            to.limits.cpu_throttled_ns = us(text, "throttled_usec");
        });
        read(&self.memory_max, &mut |to, text| to.limits.memory_max_bytes = first_limit(text));
        read(&self.memory_high, &mut |to, text| to.limits.memory_high_bytes = first_limit(text));
        read(&self.memory_events, &mut |to, text| {
            to.limits.memory_high_events = keyed(text, "high");
            to.limits.oom_kills = keyed(text, "oom_kill");
        });
        let total = |text: &str, line: &str| {
            let line = text.lines().find(|l| l.split_ascii_whitespace().next() == Some(line))?;
            let total =
                line.split_ascii_whitespace().find_map(|item| item.strip_prefix("total="))?;
            total.parse().ok().and_then(|us: u64| us.checked_mul(1000))
        };
        read(&self.cpu_pressure, &mut |to, text| {
            to.pressure.cpu_some_ns = total(text, "some");
            to.pressure.cpu_full_ns = total(text, "full");
        });
        read(&self.memory_pressure, &mut |to, text| {
            to.pressure.memory_some_ns = total(text, "some");
            to.pressure.memory_full_ns = total(text, "full");
        });
        read(&self.io_pressure, &mut |to, text| {
            to.pressure.io_some_ns = total(text, "some");
            to.pressure.io_full_ns = total(text, "full");
        });
        answer
    }
}

/// The first word of the file of a limit: a number, or `max`, which is no limit.
fn first_limit(text: &str) -> Option<u64> {
    match text.split_ascii_whitespace().next()? {
        "max" => Some(0),
        number => number.parse().ok(),
    }
}

/// The number in the line that begins with this key.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, number) = line.split_once(' ')?;
        (found == key).then(|| number.trim_end().parse().ok())?
    })
}

/// A counter that goes on when it is counted by another group.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    published: Option<u64>,
    /// What the present group said last; `None` before it said anything.
    last: Option<u64>,
}

impl Counter {
    fn advance(&mut self, raw: Option<u64>) -> Option<u64> {
        let Some(now) = raw else {
            self.last = None;
            return None;
        };
        let before = self.published.unwrap_or(0);
        // A group whose first word this is had counted before; of the first group all is counted.
        let began = self.last.unwrap_or(if self.published.is_none() { 0 } else { now });
        self.last = Some(now);
        self.published = Some(before.saturating_add(now.saturating_sub(began)));
        self.published
    }
}

/// The counters of a group.
#[derive(Clone, Copy, Debug, Default)]
struct Counters([Counter; 11]);

impl Counters {
    /// What follows is said by another group.
    fn begin_again(&mut self) {
        self.0.iter_mut().for_each(|counter| counter.last = None);
    }

    fn advance(&mut self, answer: Answer) -> (GroupLimits, GroupPressure) {
        let Answer { mut limits, mut pressure, .. } = answer;
        let words = [
            &mut limits.cpu_periods,
            &mut limits.cpu_throttled_periods,
            &mut limits.cpu_throttled_ns,
            &mut limits.memory_high_events,
            &mut limits.oom_kills,
            &mut pressure.cpu_some_ns,
            &mut pressure.cpu_full_ns,
            &mut pressure.memory_some_ns,
            &mut pressure.memory_full_ns,
            &mut pressure.io_some_ns,
            &mut pressure.io_full_ns,
        ];
        for (counter, word) in self.0.iter_mut().zip(words) {
            *word = counter.advance(*word);
        }
        (limits, pressure)
    }
}

#[cfg(test)]
mod tests;
