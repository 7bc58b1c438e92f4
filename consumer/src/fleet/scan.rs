//! Search for regions in the descriptors of processes.
//!
//! For domains without an entry: those in jails, where neither a directory of regions nor `/proc` is. What
//! a process calls its memory or says in it is an allegation; the process and its user are the kernel's word.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use domstat_layout::directory::{RegionLink, is_name, is_region_memfd};
use domstat_layout::latest::Identity;
use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;

use super::{ATTACHING, Member, Origin};
use crate::attach::{Attachment, Limits, Processes};
use crate::error::AttachError;
use crate::read::Reading;
use crate::read::patience::Patience;
use crate::region::file::{FileId, id_at, id_of, is_lasting};
use crate::region::{MappedFile, Region};

/// How long one scan may take; the processes that are left are looked at in the next one.
const SCAN: Duration = Duration::from_millis(500);
/// Pause between two rounds of all processes: a look at a descriptor is a system call.
const PAUSE: Duration = Duration::from_secs(2);
/// Most descriptors of one process that are looked at: what it opens beyond them hides its own regions only.
const MAX_DESCRIPTORS: usize = 1 << 17;
/// Most regions of one process: a daemon with more domains than this serves them at a socket.
const MAX_REGIONS: usize = 1 << 12;
/// Most regions that are found so in all. The first of each process comes before the second of any.
const MAX_SCANNED: usize = 1 << 14;
/// Longest text of `/proc` about one process or descriptor that is read.
const MAX_TEXT: usize = 1 << 14;

/// The process that writes a region, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its number, in the namespace that `/proc` shows.
    pub pid: u32,
    /// The user that it runs as.
    pub uid: u32,
}

/// The descriptors of regions that processes have open for writing.
#[derive(Default)]
pub(super) struct Scan {
    /// Those to be looked at in this round, the next one last.
    left: Vec<u32>,
    /// When the last round ended.
    ended: Option<Instant>,
    rounds: u64,
    /// Of each process, by its number.
    of: BTreeMap<u32, Look>,
    /// What became of them.
    tried: HashMap<FileId, Tried>,
    /// Whether some were not attached yet.
    is_behind: bool,
}

/// An attempt to make a member of a descriptor.
struct Tried {
    link: RegionLink,
    /// The member's, if it became one.
    key: Option<String>,
    round: u64,
}

/// What a look at one process found.
enum Look {
    Found(Vec<(FileId, u32)>),
    NotPermitted,
}

impl Scan {
    /// Whether all processes were looked at, once.
    pub(super) fn is_complete(&self) -> bool {
        self.rounds > 0 && !self.is_behind
    }

    /// Processes that could not be looked into.
    pub(super) fn nr_not_permitted(&self) -> usize {
        self.of.values().filter(|look| matches!(look, Look::NotPermitted)).count()
    }

    /// Looks at the next processes.
    fn advance(&mut self) -> Result<(), Errno> {
        if self.left.is_empty() {
            if self.ended.is_some_and(|ended| ended.elapsed() < PAUSE) {
                return Ok(());
            }
            let mut pids = numbers(Path::new("/proc"), usize::MAX)?;
            pids.sort_unstable_by(|a, b| b.cmp(a));
            self.of.retain(|pid, _| pids.binary_search_by(|other| pid.cmp(other)).is_ok());
            self.left = pids;
        }
        let until = Instant::now() + SCAN;
        while let Some(pid) = self.left.pop() {
            match look_into(pid) {
                Ok(found) if found.is_empty() => drop(self.of.remove(&pid)),
                Ok(found) => drop(self.of.insert(pid, Look::Found(found))),
                Err(Errno::ACCESS | Errno::PERM) => drop(self.of.insert(pid, Look::NotPermitted)),
                // It has exited.
                Err(Errno::NOENT | Errno::SRCH) => drop(self.of.remove(&pid)),
                // What cannot be looked at now may be there.
                Err(_) => {}
            }
            if self.left.is_empty() {
                self.ended = Some(Instant::now());
                self.rounds += 1;
            } else if Instant::now() > until {
                break;
            }
        }
        Ok(())
    }

    /// The file of each region that was found, and the descriptor that belongs to its producer: of several that
    /// are open for writing, that of a process of the user that made the memory, then that of the oldest.
    fn producers(&self) -> BTreeMap<FileId, RegionLink> {
        let mut holders: BTreeMap<FileId, Vec<RegionLink>> = BTreeMap::new();
        for (pid, look) in &self.of {
            let Look::Found(found) = look else { continue };
            for (file, fd) in found {
                holders.entry(*file).or_default().push(RegionLink { pid: *pid, fd: *fd });
            }
        }
        let chosen = holders.into_iter().filter_map(|(file, links)| match links.as_slice() {
            [one] => Some((file, *one)),
            several => {
                let rank = |link: &&RegionLink| {
                    let maker = rustix::fs::stat(link.to_string()).ok().map(|stat| stat.st_uid);
                    let is_maker = maker.is_some() && maker == uid_of(link.pid);
                    (!is_maker, began(link.pid).unwrap_or(u64::MAX), link.fd)
                };
                Some((file, *several.iter().min_by_key(rank)?))
            }
        });
        chosen.collect()
    }

    /// Makes members of the regions that were found and that no other member is of; `before` are those of the
    /// scan before.
    pub(super) fn refresh(
        &mut self,
        members: &mut BTreeMap<String, Member>,
        mut before: BTreeMap<String, Member>,
        limits: Limits,
        processes: &mut Processes,
    ) -> Result<(), AttachError> {
        let listed = self.advance().map_err(|e| AttachError::os("list /proc", e));
        let mut producers = self.producers();
        if !producers.is_empty() {
            for known in members.values().filter_map(|m| first_file(m.region().ok()?)) {
                producers.remove(&known);
            }
        }
        let mut nr_of: HashMap<u32, u32> = HashMap::new();
        let mut producers: Vec<_> = producers
            .into_iter()
            .map(|(file, link)| {
                let nr = nr_of.entry(link.pid).or_default();
                *nr += 1;
                (*nr, file, link)
            })
            .collect();
        producers.sort_unstable_by_key(|(nr, file, _)| (*nr, *file));
        let until = Instant::now() + ATTACHING;
        let mut tried = HashMap::new();
        self.is_behind = false;
        for (_, file, link) in producers.into_iter().take(MAX_SCANNED) {
            let path = PathBuf::from(link.to_string());
            let old = self.tried.remove(&file).filter(|old| old.link == link);
            let found = old.map(|old| {
                let member = old.key.as_ref().and_then(|key| before.remove(key));
                (member, old)
            });
            let (member, result) = match found {
                Some((member, old)) if !old.is_due(member.as_ref(), self.rounds) => (member, old),
                _ if Instant::now() > until => {
                    self.is_behind = true;
                    continue;
                }
                _ => {
                    let member = Member::of_process(link.pid, path, limits, processes);
                    let key = member.as_ref().map(|member| key_of(member, link, members));
                    (member, Tried { link, key, round: self.rounds })
                }
            };
            if let (Some(member), Some(key)) = (member, &result.key)
                && !members.contains_key(key)
            {
                members.insert(key.clone(), member);
            }
            tried.insert(file, result);
        }
        self.tried = tried;
        listed
    }
}

impl Tried {
    /// Whether to look at the memory again: a region that was replaced at once, and what is not one in the
    /// next round.
    fn is_due(&self, member: Option<&Member>, round: u64) -> bool {
        match member.map(Member::region) {
            Some(Ok(region)) => !region.status().same_incarnation,
            Some(Err(_)) | None => self.round != round,
        }
    }
}

/// `NAME@PID`, with the descriptor if another member is called so.
fn key_of(member: &Member, link: RegionLink, members: &BTreeMap<String, Member>) -> String {
    let key = format!("{}@{}", member.own_name().unwrap_or_default(), link.pid);
    if members.contains_key(&key) { format!("{key}:{}", link.fd) } else { key }
}

impl Member {
    /// The region in the memory at `path`, a descriptor of the process; `None` if that is no memory of a
    /// region, as before it is published, or the process has exited.
    fn of_process(
        pid: u32,
        path: PathBuf,
        limits: Limits,
        processes: &mut Processes,
    ) -> Option<Self> {
        let mapped = match MappedFile::open(&path) {
            Ok(mapped) if is_lasting(mapped.file()) => mapped,
            _ => return None,
        };
        let attachment = Attachment::from_mapped_with(mapped, processes);
        let attachment = attachment.map(|attachment| attachment.with_limits(limits));
        let uid = uid_of(pid)?;
        // Its number was its own meanwhile if it has not exited.
        if attachment.as_ref().is_ok_and(Attachment::has_no_producer) {
            return None;
        }
        let mut member = Self::new(path, Origin::Process, attachment);
        member.owner = Some(Owner { pid, uid });
        Some(member)
    }

    /// The name that the region gives itself, if it is one.
    fn own_name(&self) -> Option<String> {
        let region = self.region().ok()?;
        // It is not waited for: there may be thousands of them.
        region.set_patience(Patience { yielding: Duration::ZERO, ..Patience::default() });
        let identity = region.dom().read::<Identity>();
        region.set_patience(Patience::default());
        let Ok(Reading::Active(identity)) = identity else { return None };
        identity.name.as_str().filter(|name| is_name(name)).map(str::to_owned)
    }
}

fn first_file(region: &Region) -> Option<FileId> {
    id_of(region.files().next()?)
}

/// The memory of regions that a process has open for writing, and one of its descriptors of each.
fn look_into(pid: u32) -> Result<Vec<(FileId, u32)>, Errno> {
    let dir = PathBuf::from(format!("/proc/{pid}/fd"));
    let at = open_dir(&dir)?;
    let mut found = HashMap::new();
    let (mut candidates, mut target) = (0, Vec::new());
    for fd in numbers_in(at.as_fd(), MAX_DESCRIPTORS)? {
        // Only the link is read: to open what it leads to could have effects.
        let Ok(link) = rustix::fs::readlinkat(&at, fd.to_string(), target) else {
            target = Vec::new();
            continue;
        };
        if is_region_memfd(link.as_bytes())
            && candidates < MAX_REGIONS
            && let Ok(file) = id_at(&dir.join(fd.to_string()))
            && let Entry::Vacant(place) = found.entry(file)
        {
            candidates += 1;
            if is_open_for_writing(pid, fd) == Some(true) {
                place.insert(fd);
            }
        }
        target = link.into_bytes();
    }
    Ok(found.into_iter().collect())
}

fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// The entries of a directory that are numbers, at most so many.
fn numbers(dir: &Path, most: usize) -> Result<Vec<u32>, Errno> {
    numbers_in(open_dir(dir)?.as_fd(), most)
}

fn numbers_in(dir: BorrowedFd<'_>, most: usize) -> Result<Vec<u32>, Errno> {
    let number = |name: &CStr| name.to_str().ok()?.parse::<u32>().ok();
    let mut numbers = Vec::new();
    for entry in Dir::read_from(dir)? {
        if numbers.len() >= most {
            break;
        }
        numbers.extend(number(entry?.file_name()));
    }
    Ok(numbers)
}

/// The text of a file in `/proc`, as far as it is read.
fn text(path: &str) -> Option<String> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut bytes = vec![0; MAX_TEXT];
    let len = rustix::io::read(&file, &mut bytes).ok()?;
    bytes.truncate(len);
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a descriptor is open for writing; a reader's is not.
fn is_open_for_writing(pid: u32, fd: u32) -> Option<bool> {
    let text = text(&format!("/proc/{pid}/fdinfo/{fd}"))?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?.trim();
    let access = u64::from_str_radix(flags, 8).ok()? & 0o3;
    Some(access != 0)
}

/// The effective user of a process. Not the owner of its directory: that is root for a process that
/// does not let itself be traced.
fn uid_of(pid: u32) -> Option<u32> {
    let text = text(&format!("/proc/{pid}/status"))?;
    let ids = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

/// When a process began, in the kernel's ticks.
fn began(pid: u32) -> Option<u64> {
    let text = text(&format!("/proc/{pid}/stat"))?;
    // Its name may have spaces and parentheses of its own.
    let (_, fields) = text.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}
