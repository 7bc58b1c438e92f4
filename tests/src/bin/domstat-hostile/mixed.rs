//! All attacks at once, next to 20 VMs that behave.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::attack::{CONTROL, ENTRIES, FOREIGN, HANDOVER, HTTP};
use crate::daemon::Attacker;
use crate::qmp::Hostility;
use crate::rows::{APART, Bounds, SHARED, Setup, scrape, served};

/// VMs that behave.
const VMS: usize = 20;
/// How often their numbers are brought up to date: the default.
const INTERVAL: Duration = Duration::from_secs(1);
/// How old they may become, in intervals.
const MOST_INTERVALS: u32 = 3;
/// By how much the daemon's memory may grow after half of the time.
const MOST_GROWTH: u64 = 16 << 20;

/// How often the exporter is scraped.
const SCRAPE: Duration = Duration::from_secs(5);
/// How long a scrape may take: the timeout of a usual scraper.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The bounds that the rows have, too.
const BOUNDS: Bounds = Bounds::KEPT;

/// What a scraper saw.
#[derive(Default)]
struct Scrapes {
    asked: u32,
    answered: u32,
    /// The longest of those that were answered.
    longest: Duration,
    /// The longest time without an answer.
    pause: Duration,
}

/// A client that scrapes at its interval, each time once.
struct Scraper(std::thread::JoinHandle<Scrapes>);

impl Scraper {
    fn start(from: Ipv4Addr, address: &str, time: Duration) -> Self {
        let address = address.to_owned();
        Self(std::thread::spawn(move || {
            let (mut scrapes, began) = (Scrapes::default(), Instant::now());
            let mut last = began;
            while began.elapsed() + TIMEOUT < time || scrapes.asked == 0 {
                let next = Instant::now() + SCRAPE;
                scrapes.asked += 1;
                if let Ok((took, text)) = scrape(from, &address)
                    && text.contains("good0")
                {
                    scrapes.answered += 1;
                    scrapes.longest = scrapes.longest.max(took);
                    scrapes.pause = scrapes.pause.max(last.elapsed());
                    last = Instant::now();
                }
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            scrapes.pause = scrapes.pause.max(last.elapsed());
            scrapes
        }))
    }

    fn end(self) -> Scrapes {
        self.0.join().unwrap_or_default()
    }
}

/// Attacks for this time; whether all bounds hold.
pub(crate) fn run(program: &Path, time: Duration) -> Fallible<bool> {
    let setup = Setup::new(program)?;
    let (mut qemu, mut watch) = setup.qemu(VMS, INTERVAL)?;
    let (mut process, mut served_watch, socket, _subject) = served(&setup)?;
    let (mut exporter, address) = setup.exporter()?;
    std::fs::set_permissions(setup.dir(), std::fs::Permissions::from_mode(0o1777))?;
    let mut attackers = Vec::new();
    for (name, hostility) in Hostility::NAMES {
        if hostility != Hostility::Harmless {
            let at = setup.dir().join(format!("qmp/evil-{name}.qmp"));
            attackers.push(Attacker::start(&format!("qmp-{name}"), &at, None)?);
        }
    }
    let foreign = Some(setup.foreign.as_path());
    let control = setup.dir().join("control.sock");
    for (names, at, foreign) in [
        (&CONTROL[..], control.as_path(), foreign),
        (&HANDOVER[..], socket.as_path(), foreign),
        (&HTTP[..], Path::new(&address), foreign),
        (&ENTRIES[..], setup.dir(), None),
        (&FOREIGN[..1], setup.dir(), foreign),
    ] {
        for name in names {
            attackers.push(Attacker::start(name, at, foreign)?);
        }
    }
    let began = Instant::now();
    let scrapers = [APART, SHARED].map(|from| Scraper::start(from, &address, time));
    let mut early = 0;
    while began.elapsed() < time {
        watch.look();
        served_watch.look();
        if early == 0 && began.elapsed() > time / 2 {
            early = qemu.memory("VmRSS");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let [apart, shared] = scrapers.map(Scraper::end);
    let late = qemu.memory("VmRSS");
    let peak = qemu.memory("VmHWM");
    let alive = qemu.runs() && process.runs() && exporter.runs();
    let ends = [qemu.end(), process.end(), exporter.end()];
    let attacking = attackers.iter_mut().map(|a| a.runs()).filter(|runs| *runs).count();
    let all = attackers.len();
    drop(attackers);
    let shown = |end: Option<Duration>| match end {
        Some(end) => format!("{} ms", end.as_millis()),
        None => "does not end".to_owned(),
    };
    println!("| what | seen | bound |");
    println!("|---|---|---|");
    println!("| time, attacks at once | {} s, {attacking} of {all} | |", time.as_secs());
    println!(
        "| oldest number of {} VMs | {} ms | {} ms |",
        watch.len(),
        watch.oldest.as_millis(),
        (INTERVAL * MOST_INTERVALS).as_millis()
    );
    println!("| domains lost | {} | 0 |", watch.lost + served_watch.lost);
    println!(
        "| memory of `run qemu` after half of the time, at the end, at most | {} MiB, {} MiB, {} MiB | growth {} MiB, most {} MiB |",
        early >> 20,
        late >> 20,
        peak >> 20,
        MOST_GROWTH >> 20,
        BOUNDS.memory >> 20
    );
    println!(
        "| oldest number of a domain at the attacked socket | {} ms | |",
        served_watch.oldest.as_millis()
    );
    println!(
        "| scrapes every {} s from an address of its own, the longest | {} of {}, {} ms | all, {} ms |",
        SCRAPE.as_secs(),
        apart.answered,
        apart.asked,
        apart.longest.as_millis(),
        TIMEOUT.as_millis()
    );
    println!(
        "| the same from the attackers' address, the longest time without one | {} of {}, {} ms | 1 |",
        shared.answered,
        shared.asked,
        shared.pause.as_millis()
    );
    println!(
        "| SIGTERM of `run qemu`, `run process`, `export` | {}, {}, {} | {} ms |",
        shown(ends[0]),
        shown(ends[1]),
        shown(ends[2]),
        BOUNDS.end.as_millis()
    );
    let ended = ends.iter().all(|end| end.is_some_and(|end| end <= BOUNDS.end));
    let fresh = watch.oldest <= INTERVAL * MOST_INTERVALS;
    let flat = late <= early + MOST_GROWTH && peak <= BOUNDS.memory;
    let kept = watch.lost + served_watch.lost == 0 && alive;
    let scraped = apart.answered == apart.asked
        && apart.asked > 0
        && apart.longest <= TIMEOUT
        && shared.answered > 0;
    for (holds, what) in [
        (ended, "SIGTERM"),
        (fresh, "age"),
        (flat, "memory"),
        (kept, "domains"),
        (scraped, "scrapes"),
        (attacking == all, "attackers"),
    ] {
        if !holds {
            eprintln!("domstat-hostile: the bound of {what} is broken");
        }
    }
    Ok(ended && fresh && flat && kept && scraped && attacking == all)
}
