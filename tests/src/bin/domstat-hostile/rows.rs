//! One row for each hostile behavior of each boundary.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use domstat_consumer::handover::Connection;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use crate::Fallible;
use crate::attack::{CONTROL, ENTRIES, FOREIGN, HANDOVER, HTTP};
use crate::daemon::{Attacker, Daemon, NOBODY, wait_for};
use crate::qmp::{self, Hostility};
use crate::watch::{Group, Watch};

/// How often the programs under attack bring numbers up to date.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);
/// What must hold in every row.
pub(crate) struct Bounds {
    /// How old the numbers of others may become.
    age: Duration,
    /// How much memory a program under attack may take, in bytes: several times what the largest
    /// answer of a QMP peer takes while it is parsed.
    pub(crate) memory: u64,
    /// How soon it ends when it is asked to.
    pub(crate) end: Duration,
}

impl Bounds {
    pub(crate) const KEPT: Self = Self {
        age: Duration::from_millis(3 * 500),
        memory: 256 << 20,
        end: Duration::from_secs(2),
    };
    /// No program keeps these.
    pub(crate) const BROKEN: Self = Self { age: Duration::ZERO, memory: 0, end: Duration::ZERO };
}

/// How long a scrape, or root's request, may take.
const MOST_ANSWER: Duration = Duration::from_secs(5);
/// How long each attack goes on.
const ATTACK: Duration = Duration::from_millis(2500);

/// What a row saw.
struct Seen {
    /// What the program did.
    did: String,
    /// The most memory that it took, in bytes.
    memory: u64,
    /// The greatest age of the others' numbers, or how long their readers waited.
    age: Duration,
    /// How long its end took.
    end: Option<Duration>,
    /// The same where it is the numbers' age, which is bounded in intervals.
    numbers: Option<Duration>,
    /// What else was wrong.
    wrong: Vec<String>,
}

/// Where a row happens.
pub(crate) struct Setup {
    pub(crate) program: PathBuf,
    dir: tempfile::TempDir,
    /// This program, where another user may run it.
    pub(crate) foreign: PathBuf,
}

impl Setup {
    pub(crate) fn new(program: &Path) -> Fallible<Self> {
        let dir = tempfile::tempdir()?;
        // Other users attack what is in it.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
        let foreign = dir.path().join("hostile");
        let copied = Command::new("cp").arg(std::env::current_exe()?).arg(&foreign).status()?;
        if !copied.success() {
            return Err("cannot copy this program".into());
        }
        Ok(Self { program: program.to_owned(), dir, foreign })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `run qemu` with well-behaved VMs, all of which are published and watched.
    pub(crate) fn qemu(&self, vms: usize, interval: Duration) -> Fallible<(Daemon, Watch)> {
        let sockets = self.dir().join("qmp");
        std::fs::create_dir_all(&sockets)?;
        for n in 0..vms {
            let path = sockets.join(format!("good{n}.qmp"));
            qmp::start(&path, &format!("good{n}"), Hostility::Harmless);
        }
        let interval = interval.as_secs_f64().to_string();
        let group = NOBODY.to_string();
        let sockets = sockets.to_string_lossy().into_owned();
        let args = ["run", "qemu", "--qmp-dir", &sockets, "--interval", &interval];
        let args = [&args[..], &["--group", &group]].concat();
        let daemon = Daemon::start(&self.program, self.dir(), &args, 0)?;
        let mut watch = Watch::new(Group::BlkIo);
        for n in 0..vms {
            let name = format!("good{n}");
            wait_for(&name, || watch.add(self.dir(), &name).then_some(()))?;
        }
        Ok((daemon, watch))
    }

    /// `export`, and its address.
    pub(crate) fn exporter(&self) -> Fallible<(Daemon, String)> {
        let args = ["export", "--listen", "127.0.0.1:0"];
        let daemon = Daemon::start(&self.program, self.dir(), &args, 0)?;
        let address = wait_for("the exporter", || {
            let line = daemon.note("://")?;
            let rest = line.split_once("://")?.1;
            Some(rest.split_once('/')?.0.to_owned())
        })?;
        Ok((daemon, address))
    }
}

/// Prints every row whose name contains `only`; whether all bounds hold.
pub(crate) fn run(program: &Path, only: &str, bounds: &Bounds) -> Fallible<bool> {
    println!(
        "| boundary | hostile behavior | what the program did | memory | age of the others | SIGTERM |"
    );
    println!("|---|---|---|---|---|---|");
    let mut well = true;
    let mut row = |boundary: &str, behavior: &str, seen: &dyn Fn() -> Fallible<Seen>| {
        if !behavior.contains(only) {
            return Ok(());
        }
        let seen = seen()?;
        println!("{}", seen.row(boundary, behavior));
        let wrong = seen.wrong(bounds);
        if !wrong.is_empty() {
            eprintln!("domstat-hostile: {behavior}: {}", wrong.join(", "));
            well = false;
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    for (name, _) in Hostility::NAMES.iter().filter(|(_, h)| *h != Hostility::Harmless) {
        let name = format!("qmp-{name}");
        row("QMP peer", &name, &|| qmp_peer(program, &name))?;
    }
    for name in CONTROL {
        row("client of a control socket", name, &|| control(program, name))?;
    }
    for name in HANDOVER {
        row("client of a hand-over socket", name, &|| handover(program, name))?;
    }
    for name in HTTP {
        row("HTTP client", name, &|| http(program, name))?;
    }
    for name in ENTRIES {
        let boundary = if name.starts_with("region") { "region" } else { "directory of regions" };
        row(boundary, name, &|| in_directory(program, name, None))?;
    }
    for name in FOREIGN {
        row("daemon of another user", name, &|| in_directory(program, name, Some(())))?;
    }
    Ok(well)
}

impl Seen {
    fn row(&self, boundary: &str, behavior: &str) -> String {
        let mut row = format!("| {boundary} | {behavior} | {} | ", self.did.replace('|', "/"));
        let _ = write!(row, "{} MiB | {} ms | ", self.memory >> 20, self.age.as_millis());
        let _ = match self.end {
            Some(end) => write!(row, "{} ms |", end.as_millis()),
            None => write!(row, "does not end |"),
        };
        row
    }

    fn wrong(&self, bounds: &Bounds) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        if self.memory > bounds.memory {
            wrong.push(format!("took {} MiB", self.memory >> 20));
        }
        if self.numbers.is_some_and(|age| age > bounds.age) {
            wrong.push("numbers of others were too old".to_owned());
        }
        if self.end.is_none_or(|end| end > bounds.end) {
            wrong.push("did not end in time".to_owned());
        }
        wrong
    }
}

/// No domain that behaves may be lost.
fn lost(watch: &Watch, wrong: &mut Vec<String>) {
    if watch.lost > 0 {
        wrong.push(format!("{} times a domain was lost", watch.lost));
    }
}

fn qmp_peer(program: &Path, name: &str) -> Fallible<Seen> {
    let setup = Setup::new(program)?;
    let (mut daemon, mut watch) = setup.qemu(3, INTERVAL)?;
    let socket = setup.dir().join("qmp/evil.qmp");
    let mut attacker = Attacker::start(name, &socket, None)?;
    watch.look_for(ATTACK);
    let mut wrong = Vec::new();
    lost(&watch, &mut wrong);
    // A new VM is found, and another is asked, while the attack goes on.
    let path = setup.dir().join("qmp/late.qmp");
    qmp::start(&path, "late", Hostility::Harmless);
    let began = Instant::now();
    if wait_for("a new VM", || watch.add(setup.dir(), "late").then_some(())).is_err() {
        wrong.push("a new VM was not found".to_owned());
    }
    if began.elapsed() > MOST_ANSWER {
        wrong.push(format!("a new VM was found after {} ms", began.elapsed().as_millis()));
    }
    list(&setup, "good0", &mut wrong)?;
    let note = daemon.note("evil").unwrap_or_default();
    let did = match note.split_once("evil.qmp: ") {
        Some((_, why)) => format!("notes \"{}\"", why.trim()),
        None if note.contains("publishing") => "publishes what is within its limits".to_owned(),
        None => "waits for it".to_owned(),
    };
    if !attacker.runs() {
        wrong.push("the attacker ended".to_owned());
    }
    let memory = daemon.memory("VmHWM");
    let age = watch.oldest;
    Ok(Seen { did, memory, age, end: daemon.end(), numbers: Some(age), wrong })
}

/// Asks for the disks of a domain as root does, which must not take long.
fn list(setup: &Setup, domain: &str, wrong: &mut Vec<String>) -> Fallible<Duration> {
    let began = Instant::now();
    let listed = Command::new(&setup.program)
        .args(["block", "list", domain])
        .env("DOMSTAT_DIR", setup.dir())
        .stdin(Stdio::null())
        .output()?;
    let took = began.elapsed();
    if !listed.status.success() {
        wrong.push(format!("block list: {}", String::from_utf8_lossy(&listed.stderr).trim()));
    }
    if took > MOST_ANSWER {
        wrong.push(format!("block list took {} ms", took.as_millis()));
    }
    Ok(took)
}

fn control(program: &Path, name: &str) -> Fallible<Seen> {
    let setup = Setup::new(program)?;
    let (mut daemon, mut watch) = setup.qemu(3, INTERVAL)?;
    let socket = setup.dir().join("control.sock");
    let mut attacker = Attacker::start(name, &socket, Some(&setup.foreign))?;
    watch.look_for(ATTACK);
    let mut wrong = Vec::new();
    lost(&watch, &mut wrong);
    let took = list(&setup, "good0", &mut wrong)?;
    let did = format!("answers root within {} ms", took.as_millis());
    if !attacker.runs() {
        wrong.push("the attacker ended".to_owned());
    }
    let memory = daemon.memory("VmHWM");
    let age = watch.oldest;
    Ok(Seen { did, memory, age, end: daemon.end(), numbers: Some(age), wrong })
}

fn handover(program: &Path, name: &str) -> Fallible<Seen> {
    let setup = Setup::new(program)?;
    let (mut daemon, mut watch, socket, _child) = served(&setup)?;
    let mut attacker = Attacker::start(name, &socket, Some(&setup.foreign))?;
    watch.look_for(ATTACK);
    let mut wrong = Vec::new();
    lost(&watch, &mut wrong);
    if !daemon.runs() {
        wrong.push("the daemon ended".to_owned());
    }
    let began = Instant::now();
    let again = wait_for("a place", || Connection::connect(&socket).ok()?.attach("p1").ok());
    let took = began.elapsed();
    if again.is_err() || took > MOST_ANSWER {
        wrong.push("root was not served".to_owned());
    }
    let did = format!("serves root within {} ms", took.as_millis());
    if !attacker.runs() {
        wrong.push("the attacker ended".to_owned());
    }
    let memory = daemon.memory("VmHWM");
    let age = watch.oldest;
    Ok(Seen { did, memory, age, end: daemon.end(), numbers: Some(age), wrong })
}

/// `run process` at a socket, with the usual limit of files.
pub(crate) fn served(setup: &Setup) -> Fallible<(Daemon, Watch, PathBuf, Attacker)> {
    // A process that is there for as long as the row.
    let subject = Attacker::start("handover-idle", Path::new("/nonexistent"), None)?;
    let socket = setup.dir().join("serve.sock");
    let interval = INTERVAL.as_millis().to_string();
    let pid = subject.id().to_string();
    let at = socket.to_string_lossy().into_owned();
    let args = ["run", "process", "--pid", &pid, "--name", "p1", "--interval", &interval];
    let args = [&args[..], &["--socket", &at, "--socket-mode", "666"]].concat();
    let daemon = Daemon::start(&setup.program, setup.dir(), &args, 1024)?;
    let mut watch = Watch::new(Group::Runstate);
    let region = wait_for("p1", || Connection::connect(&socket).ok()?.attach("p1").ok())?;
    watch.add_region("p1", region);
    Ok((daemon, watch, socket, subject))
}

/// Where clients that behave scrape from: the attackers' own address, and another one.
pub(crate) const SHARED: Ipv4Addr = Ipv4Addr::LOCALHOST;
pub(crate) const APART: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Scrapes as a client at `from`; how long that took, and what came.
pub(crate) fn scrape(from: Ipv4Addr, address: &str) -> std::io::Result<(Duration, String)> {
    let began = Instant::now();
    let to: SocketAddrV4 = address.parse().map_err(std::io::Error::other)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrV4::new(from, 0))?;
    connect(&socket, &to)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(2 * MOST_ANSWER))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok((began.elapsed(), text))
}

/// Scrapes for this time: the longest scrape. Each must have the domain `good0`.
pub(crate) fn scrape_for(address: &str, time: Duration, wrong: &mut Vec<String>) -> Duration {
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    let mut failures = 0;
    while began.elapsed() < time {
        match scrape(SHARED, address) {
            Ok((took, text)) if text.contains("good0") => longest = longest.max(took),
            // Slots for scrapes are few, and Prometheus asks again.
            _ => failures += 1,
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    if longest == Duration::ZERO {
        wrong.push(format!("no scrape was answered, {failures} failed"));
    }
    if longest > MOST_ANSWER {
        wrong.push(format!("a scrape took {} ms", longest.as_millis()));
    }
    longest
}

fn http(program: &Path, name: &str) -> Fallible<Seen> {
    let setup = Setup::new(program)?;
    let (_qemu, _watch) = setup.qemu(1, INTERVAL)?;
    let (mut daemon, address) = setup.exporter()?;
    let mut attacker = Attacker::start(name, Path::new(&address), Some(&setup.foreign))?;
    std::thread::sleep(Duration::from_millis(500));
    let mut wrong = Vec::new();
    // Long enough for the deadlines of what came first to pass.
    let age = scrape_for(&address, ATTACK * 4, &mut wrong);
    if !attacker.runs() {
        wrong.push("the attacker ended".to_owned());
    }
    let memory = daemon.memory("VmHWM");
    let did = "answers scrapes".to_owned();
    Ok(Seen { did, memory, age, end: daemon.end(), numbers: None, wrong })
}

/// Attacks through the directory of regions, upon the exporter that reads it.
fn in_directory(program: &Path, name: &str, foreign: Option<()>) -> Fallible<Seen> {
    let setup = Setup::new(program)?;
    let (_qemu, _watch) = setup.qemu(1, INTERVAL)?;
    let foreign = foreign.map(|()| setup.foreign.as_path());
    if foreign.is_some() {
        std::fs::set_permissions(setup.dir(), std::fs::Permissions::from_mode(0o1777))?;
    }
    let (mut daemon, address) = setup.exporter()?;
    let mut attacker = Attacker::start(name, setup.dir(), foreign)?;
    std::thread::sleep(Duration::from_millis(500));
    let mut wrong = Vec::new();
    let age = scrape_for(&address, ATTACK, &mut wrong);
    if !attacker.runs() {
        wrong.push("the attacker ended".to_owned());
    }
    let memory = daemon.memory("VmHWM");
    let did = "answers scrapes, the others in them".to_owned();
    Ok(Seen { did, memory, age, end: daemon.end(), numbers: None, wrong })
}
