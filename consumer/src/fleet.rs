//! Fleets: all domains of a host, each attached once.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;

use crate::attach::{Attachment, Limits, Liveness, Processes};
use crate::error::AttachError;
use crate::region::Region;
use crate::region::file::{FileId, id_at};

mod daemon;
mod directory;
mod find;
pub mod parts;
mod scan;

pub use find::find_daemon;
pub use scan::Owner;

use daemon::{ANSWER, Daemon, Served};
use directory::{list, socket};
use scan::Scan;

/// How long the new regions of one daemon, or of a scan, may keep a refresh; what is left is attached in the next one.
const ATTACHING: Duration = Duration::from_secs(1);
/// How long connecting to daemons may keep a refresh, all of them together.
const DIALING: Duration = Duration::from_millis(100);
/// Pause between two requests for the memory of a region of which a record is stalled: each maps it.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// The domains of a host: those with an entry in a directory and those that daemons serve whose
/// sockets are there, or those of one daemon. What was attached stays attached from one
/// [`refresh`](Fleet::refresh) to the next, so that looking again costs one look at each entry,
/// and one at what each daemon has sent since.
///
/// Of domains of the same name one is a member: one whose producer lives before one whose producer
/// has exited or that cannot be attached, then the entry before what daemons serve, and of these the
/// one whose socket's path comes first.
///
/// A daemon that does not answer holds up a refresh once, for a fraction of a second, however many
/// there are of that kind; it is listened to, and not waited for, in those that follow. When a
/// daemon has exited its domains are members with the error [`AttachError::NoDaemon`] until it is
/// back or its socket has left the directory. A daemon that cannot be connected to and of which
/// nothing is known is one member with the name of its socket.
pub struct Fleet {
    place: PathBuf,
    is_dir: bool,
    limits: Limits,
    processes: Processes,
    daemons: BTreeMap<PathBuf, Daemon>,
    members: BTreeMap<String, Member>,
    /// Those without a living producer, of names under which a daemon serves a domain that has one.
    behind: BTreeMap<String, Member>,
    scan: Option<Scan>,
}

/// A domain of a fleet.
pub struct Member {
    path: PathBuf,
    origin: Origin,
    attachment: Result<Attachment, AttachError>,
    born: SystemTime,
    owner: Option<Owner>,
    seen: bool,
    /// When its daemon may be asked again for the memory of a stalled record.
    ask_again: Option<Instant>,
}

/// Where a member was found.
enum Origin {
    /// An entry, and which file it led to.
    Entry(Option<FileId>),
    /// A daemon, and on which of its connections that was.
    Daemon(u64),
    /// A descriptor of a process.
    Process,
}

impl Fleet {
    /// The fleet in `dir`, with the daemons whose sockets (`*.sock`) are there; empty until it is
    /// refreshed.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self::at(dir, true, BTreeMap::new())
    }

    /// What the daemon at `path` serves; empty until it is refreshed.
    #[must_use]
    pub fn at_socket(path: &Path) -> Self {
        let daemons = BTreeMap::from([(path.to_owned(), Daemon::new(path.to_owned()))]);
        Self::at(path, false, daemons)
    }

    fn at(place: &Path, is_dir: bool, daemons: BTreeMap<PathBuf, Daemon>) -> Self {
        let (limits, processes) = (Limits::default(), Processes::default());
        let (place, members, behind) = (place.to_owned(), BTreeMap::new(), BTreeMap::new());
        Self { place, is_dir, limits, processes, daemons, members, behind, scan: None }
    }

    /// Has the fleet also look for regions in the descriptors of all processes, which takes root's
    /// permissions: for domains in jails, which have no entry. Such a member is called `NAME@PID`, and has
    /// an [`owner`](Member::owner): a region may say that it is any domain, but not whose process
    /// writes it. Regions that are members in another way are not found a second time.
    ///
    /// A refresh looks at processes for a bounded time, and goes on where the last one stopped.
    #[must_use]
    pub fn scan_processes(mut self) -> Self {
        self.scan = Some(Scan::default());
        self
    }

    /// Whether all processes were looked at since the fleet was made; true if none are to be.
    #[must_use]
    pub fn is_scanned(&self) -> bool {
        self.scan.as_ref().is_none_or(Scan::is_complete)
    }

    /// Processes that this one may not look into.
    #[must_use]
    pub fn nr_not_permitted(&self) -> usize {
        self.scan.as_ref().map_or(0, Scan::nr_not_permitted)
    }

    /// Sets from when on a silence of a member means something.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        for member in self.members.values_mut().chain(self.behind.values_mut()) {
            if let Ok(attachment) = &mut member.attachment {
                attachment.set_limits(limits);
            }
        }
        self
    }

    /// The directory or the socket.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Attaches to what is new, again to what was replaced or could not be attached before, and
    /// drops members that were removed. A directory that does not exist holds nothing.
    ///
    /// # Errors
    /// [`AttachError::Os`] or [`AttachError::NotPermitted`] if the directory cannot be read; the
    /// members are as they were. Of a fleet at a socket: why the daemon could not be connected to,
    /// if it never could.
    pub fn refresh(&mut self) -> Result<(), AttachError> {
        let listed = if self.is_dir { Some(list(&self.place)?) } else { None };
        let (scanned, members) = std::mem::take(&mut self.members)
            .into_iter()
            .partition(|(_, member)| matches!(member.origin, Origin::Process));
        self.members = members;
        if let Some(listed) = listed {
            self.members.values_mut().for_each(|member| member.seen = false);
            self.behind.values_mut().for_each(|member| member.seen = false);
            for (name, path) in listed.entries {
                self.look_at_entry(name, path);
            }
            self.behind.retain(|_, member| member.seen && member.is_entry());
            self.daemons.values_mut().for_each(|daemon| daemon.seen = false);
            for (path, file) in listed.sockets {
                let new = || Daemon::new(path.clone());
                let daemon = self.daemons.entry(path.clone()).or_insert_with(new);
                daemon.seen = true;
                daemon.is_at(Some(file));
            }
            self.daemons.retain(|_, daemon| daemon.seen);
        } else {
            self.members.values_mut().for_each(|member| member.seen = false);
            let file = socket(&self.place).unwrap_or_default();
            self.daemons.values_mut().for_each(|daemon| daemon.is_at(file));
        }
        hear(&mut self.daemons, !self.is_dir);
        self.take_in();
        self.bring_forward();
        self.members.retain(|_, member| member.seen);
        let looked = match &mut self.scan {
            Some(scan) => {
                scan.refresh(&mut self.members, scanned, self.limits, &mut self.processes)
            }
            None => Ok(()),
        };
        self.processes.forget_unused();
        looked?;
        match self.daemons.get(&self.place) {
            Some(daemon) if !self.is_dir && daemon.connected() == 0 => {
                daemon.trouble().map_or(Ok(()), Err)
            }
            _ => Ok(()),
        }
    }

    fn look_at_entry(&mut self, name: String, path: PathBuf) {
        let is_served = self.members.get(&name).is_some_and(|member| !member.is_entry());
        let behind = self.behind.remove(&name);
        let before = if is_served { behind } else { self.members.remove(&name) };
        let entry = match before {
            Some(mut entry) => {
                entry.look_again(path, self.limits, &mut self.processes);
                entry
            }
            None => Member::attach(path, self.limits, &mut self.processes),
        };
        let map = if is_served && !entry.is_up() { &mut self.behind } else { &mut self.members };
        map.insert(name, entry);
    }

    /// Has those that stood behind a member stand in its place if that is not up any more.
    fn bring_forward(&mut self) {
        for (name, member) in std::mem::take(&mut self.behind) {
            match self.members.get(&name) {
                Some(before) if before.seen && (before.is_entry() || before.is_up()) => {
                    self.behind.insert(name, member);
                }
                _ => drop(self.members.insert(name, member)),
            }
        }
    }

    /// Makes members of what daemons serve: what one serves comes before what another one served
    /// until it exited, and what is served at `NAME.sock` before what another serves as `NAME`.
    fn take_in(&mut self) {
        for (listed, own) in [(true, true), (true, false), (false, true), (false, false)] {
            for daemon in self.daemons.values_mut() {
                let until = Instant::now() + ATTACHING;
                let names = daemon.take_names();
                let is_next = |name: &str, served: &Served| {
                    served.listed == listed && daemon.is_named(name) == own
                };
                let next: Vec<_> =
                    names.iter().filter(|(name, served)| is_next(name, served)).collect();
                for (name, served) in next {
                    match self.members.get_mut(name) {
                        Some(member) if member.seen && (!served.listed || member.is_up()) => {}
                        Some(member) if member.is_of(daemon, *served) => {
                            member.seen = true;
                            member.look_for_new_memory(daemon, name, *served, until);
                        }
                        before => {
                            let member = Member::ask(daemon, name, *served, until, self.limits);
                            match before {
                                Some(before) if member.is_shortage() && before.is_attached() => {
                                    before.seen = true;
                                }
                                Some(before)
                                    if (before.seen || before.is_of_another(daemon))
                                        && !member.is_up() =>
                                {
                                    self.behind.entry(name.clone()).or_insert(member);
                                }
                                Some(before) => {
                                    let before = std::mem::replace(before, member);
                                    if before.seen {
                                        self.behind.entry(name.clone()).or_insert(before);
                                    }
                                }
                                None => drop(self.members.insert(name.clone(), member)),
                            }
                        }
                    }
                }
                let is_known = !names.is_empty();
                daemon.give_back(names);
                if listed || own || is_known {
                    continue;
                }
                let counts = if self.is_dir { !daemon.is_none() } else { daemon.connected() > 0 };
                if let (true, Some(error)) = (counts, daemon.trouble())
                    && let Some(name) = daemon.path().file_stem().and_then(|stem| stem.to_str())
                    && !self.members.get(name).is_some_and(|member| member.seen)
                {
                    self.members.insert(name.to_owned(), Member::failed(daemon, error));
                }
            }
        }
    }

    /// The members by their names, in order: that of the entry, or under which the daemon serves
    /// the domain.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Member)> {
        self.members.iter().map(|(name, member)| (name.as_str(), member))
    }

    /// Takes out the entries that are no members because a daemon serves domains of their names
    /// whose producers live.
    pub fn take_behind(&mut self) -> impl Iterator<Item = (String, Member)> + use<> {
        std::mem::take(&mut self.behind).into_iter().filter(|(_, member)| member.is_entry())
    }

    /// The member of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Member> {
        self.members.get(name)
    }
}

/// Takes in what daemons have sent, and connects to those that are new or were lost: to all that
/// are not connected if `now`. All of them are waited for at once.
fn hear(daemons: &mut BTreeMap<PathBuf, Daemon>, now: bool) {
    let end = Instant::now() + ANSWER;
    for daemon in daemons.values_mut() {
        daemon.listen(Instant::now(), end);
    }
    let began = Instant::now();
    for daemon in daemons.values_mut() {
        // What is left is connected to in the next refresh; those that refused pause by then.
        if began.elapsed() > DIALING {
            break;
        }
        daemon.dial(now && daemon.connected() == 0);
    }
    let until = Instant::now() + ANSWER;
    daemons.values_mut().for_each(|daemon| daemon.welcome(until));
    let until = Instant::now() + ANSWER;
    for daemon in daemons.values_mut().filter(|daemon| daemon.is_new()) {
        daemon.listen(until, until);
    }
}

impl IntoIterator for Fleet {
    type Item = (String, Member);
    type IntoIter = std::collections::btree_map::IntoIter<String, Member>;

    fn into_iter(self) -> Self::IntoIter {
        self.members.into_iter()
    }
}

impl Member {
    fn attach(path: PathBuf, limits: Limits, processes: &mut Processes) -> Self {
        // Looked at first: an entry that is replaced meanwhile is attached again the next time.
        let file = id_at(&path).ok();
        let attachment = Attachment::open_with(&path, processes);
        Self::new(path, Origin::Entry(file), attachment.map(|a| a.with_limits(limits)))
    }

    /// Attaches to a domain of a daemon's; not after `until`.
    fn ask(
        daemon: &mut Daemon,
        name: &str,
        served: Served,
        until: Instant,
        limits: Limits,
    ) -> Self {
        if !served.listed {
            let disconnected = || AttachError::Disconnected { path: daemon.path().to_owned() };
            return Self::failed(daemon, daemon.trouble().unwrap_or_else(disconnected));
        }
        let attachment = if Instant::now() < until {
            daemon.ask(|on| Ok(Attachment::from_handover(on.attach(name)?, on, name)))
        } else {
            let path = daemon.path().to_owned();
            Err(AttachError::TimedOut { path, deadline: ATTACHING })
        };
        let attachment = attachment.map(|a| a.with_limits(limits));
        Self::new(daemon.path().to_owned(), Origin::Daemon(daemon.connected()), attachment)
    }

    /// Asks again for a region of which a record is stalled: its owner may have new memory for the next
    /// device process.
    fn look_for_new_memory(
        &mut self,
        daemon: &mut Daemon,
        name: &str,
        served: Served,
        until: Instant,
    ) {
        let now = Instant::now();
        let Ok(attachment) = &self.attachment else { return };
        if !attachment.may_be_replaced() || self.ask_again.is_some_and(|at| now < at) {
            return;
        }
        let new = Self::ask(daemon, name, served, until, attachment.limits());
        self.ask_again = Some(now + ASK_AGAIN);
        if new.attachment.as_ref().is_ok_and(|new| !attachment.has_files_of(new)) {
            *self = new;
        }
    }

    fn failed(daemon: &Daemon, error: AttachError) -> Self {
        Self::new(daemon.path().to_owned(), Origin::Daemon(daemon.connected()), Err(error))
    }

    fn new(path: PathBuf, origin: Origin, attachment: Result<Attachment, AttachError>) -> Self {
        let born = attachment.as_ref().ok().and_then(|a| birth(a.region()));
        let born = born.unwrap_or(SystemTime::UNIX_EPOCH);
        Self { path, origin, attachment, born, owner: None, seen: true, ask_again: None }
    }

    fn look_again(&mut self, path: PathBuf, limits: Limits, processes: &mut Processes) {
        let file = id_at(&path);
        let same = self.attachment.as_ref().is_ok_and(|attachment| {
            attachment.region().status().same_incarnation && !attachment.is_held_by_now()
        });
        self.seen = match (&self.origin, file) {
            (Origin::Entry(before), Ok(file)) if same && *before == Some(file) => true,
            // What cannot be looked at now may be there.
            (Origin::Entry(_), Err(e)) if same && !matches!(e, Errno::NOENT | Errno::NOTDIR) => {
                true
            }
            _ => {
                let new = Self::attach(path, limits, processes);
                if !(new.is_shortage() && self.is_attached()) {
                    *self = new;
                }
                true
            }
        };
    }

    fn is_entry(&self) -> bool {
        matches!(self.origin, Origin::Entry(_))
    }

    /// Whether its producer lives and publishes it.
    fn is_up(&self) -> bool {
        self.liveness().is_ok_and(|liveness| liveness.is_up())
    }

    /// Whether another daemon than this handed it over.
    fn is_of_another(&self, daemon: &Daemon) -> bool {
        self.is_attached() && !self.is_entry() && self.path != daemon.path()
    }

    fn is_attached(&self) -> bool {
        self.attachment.is_ok()
    }

    /// Whether it is not attached because this process lacks descriptors or memory.
    fn is_shortage(&self) -> bool {
        self.attachment.as_ref().is_err_and(AttachError::is_shortage)
    }

    /// Whether it is this region of the daemon's, handed over while that lived.
    fn is_of(&self, daemon: &Daemon, served: Served) -> bool {
        let is_it = |attachment: &Attachment| {
            let region = attachment.region();
            region.header().incarnation == served.incarnation
                && region.status().same_incarnation
                && !attachment.has_no_producer()
        };
        matches!(self.origin, Origin::Daemon(on) if on == daemon.connected())
            && self.path == daemon.path()
            && served.listed
            && self.attachment.as_ref().is_ok_and(is_it)
    }

    /// The process that writes the region, if it was found there ([`Fleet::scan_processes`]).
    #[must_use]
    pub const fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// The entry, the socket at which the domain is served, or the descriptor of its producer.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The region, and its producer's life.
    ///
    /// # Errors
    /// Why it could not be attached, the last time that was tried.
    pub const fn attachment(&self) -> Result<&Attachment, &AttachError> {
        self.attachment.as_ref()
    }

    /// The region.
    ///
    /// # Errors
    /// As for [`Member::attachment`].
    pub fn region(&self) -> Result<&Region, &AttachError> {
        self.attachment().map(Attachment::region)
    }

    /// As [`Member::attachment`], by value.
    ///
    /// # Errors
    /// As for [`Member::attachment`].
    pub fn into_attachment(self) -> Result<Attachment, AttachError> {
        self.attachment
    }

    /// How the domain stands now: see [`Attachment::liveness`]. A few system calls.
    ///
    /// # Errors
    /// As for [`Member::attachment`].
    pub fn liveness(&self) -> Result<Liveness, &AttachError> {
        self.attachment().map(Attachment::liveness)
    }

    /// When the region was created, on the wall clock: later for each incarnation.
    #[must_use]
    pub const fn born(&self) -> SystemTime {
        self.born
    }
}

/// When the file behind a region got its length: stores to mapped memory do not touch that time.
fn birth(region: &Region) -> Option<SystemTime> {
    let stat = rustix::fs::fstat(region.files().next()?.as_fd()).ok()?;
    let seconds = u64::try_from(stat.st_mtime).ok()?;
    let nanos = u32::try_from(stat.st_mtime_nsec).ok().filter(|ns| *ns < 1_000_000_000)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}
