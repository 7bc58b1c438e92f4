//! Every pane at three sizes: nothing wraps, and no column is cut.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::path::Path;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use domstat_consumer::fleet::Fleet;
use domstat_layout::latest::{
    BlkExtent, BlkIdentity, BlkIo, BlkIoTimes, Exits, Memory, NetIdentity, NetIo, RunState,
    Runstate,
};
use domstat_layout::{Clock, Group, Name, Ns, Word};
use domstat_producer::{BlkWriter, Created, RegionBuilder};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use unicode_width::UnicodeWidthStr;

use super::app::{App, Next};
use super::config::Config;
use super::sampler::Sampler;
use super::settings::Settings;
use super::table::Order;
use crate::output::paint::When;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 50)];

fn settings() -> Settings {
    Settings {
        interval: Duration::from_secs(1),
        stale: Duration::from_secs(10),
        order: Order { column: "name", reverse: false },
        color: When::Never,
        filter: String::new(),
        columns: None,
    }
}

/// Regions that stay as they were written.
struct Host {
    _regions: Vec<(domstat_producer::Region, domstat_producer::Announcement)>,
    dir: tempfile::TempDir,
}

/// Domains `vm00`, ... with large numbers, and one whose numbers are old.
fn host(domains: u32) -> Host {
    let dir = tempfile::tempdir().unwrap();
    let now = domstat_consumer::clock::now(Clock::Monotonic).unwrap();
    let regions = (0..domains).map(|i| publish(dir.path(), &format!("vm{i:02}"), now));
    let regions = regions.collect();
    Host { _regions: regions, dir }
}

fn publish(
    dir: &Path,
    name: &str,
    now: Ns,
) -> (domstat_producer::Region, domstat_producer::Announcement) {
    let builder = RegionBuilder::new(name).vcpus(3).blks(3).nets(1).clock(Clock::Monotonic);
    let Created { unpublished, mut dom, mut vcpus, mut blks, mut nets, .. } =
        builder.create_memfd().unwrap();
    let many = Word::from(987_654_321_098_765);
    dom.write(&Memory { rss_bytes: many, current_bytes: many, ..Memory::NOT_PRODUCED }, now);
    for vcpu in vcpus.iter_mut().take(2) {
        let runstate = Runstate {
            state: Word::from(RunState::Runnable as u64),
            state_entry_ns: Word::from(now.0),
            running_ns: many,
            runnable_ns: many,
            blocked_ns: many,
            offline_ns: Word::SATURATED,
        };
        vcpu.write(&runstate, now);
        vcpu.write(&Exits { exits: many, io_exits: many, ..Exits::NOT_PRODUCED }, now);
    }
    let disks = [("vda", many), ("a-disk-with-a-long-name", many), ("hdc", Word::from(0))];
    for (blk, (name, n)) in blks.iter_mut().zip(disks) {
        blk.write(&BlkIdentity { name: Name::new(name) }, now);
        let io = BlkIo { rd_req: n, rd_bytes: n, wr_req: n, wr_bytes: n, errs: n, in_flight: n };
        blk.write(&io, now);
        if n.value() != Some(0) {
            let extent = BlkExtent {
                allocation_bytes: n,
                capacity_bytes: n,
                threshold_bytes: n,
                ..BlkExtent::NOT_PRODUCED
            };
            blk.write(&extent, now);
        }
    }
    for net in &mut nets {
        net.write(&NetIdentity { name: Name::new("vnet-of-15-chars") }, now);
        net.write(&NetIo { rx_bytes: many, tx_errs: many, ..NetIo::NOT_PRODUCED }, now);
    }
    let region = unpublished.publish().unwrap();
    let entry = region.announce(dir, name).unwrap();
    (region, entry)
}

/// The program on a screen of a test's.
struct Shown {
    app: App,
    sampler: Sampler,
    terminal: Terminal<TestBackend>,
}

impl Shown {
    fn new(host: &Host, (width, height): (u16, u16), settings: Settings) -> Self {
        let fleet = Fleet::new(host.dir.path());
        let sampler = Sampler::new(fleet, settings.interval, settings.stale);
        let app = App::new(settings, "in the test's directory".to_owned());
        let terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let mut shown = Self { app, sampler, terminal };
        shown.app.sample(&mut shown.sampler);
        shown.draw();
        shown
    }

    fn draw(&mut self) {
        let (app, sampler) = (&mut self.app, &self.sampler);
        self.terminal.draw(|frame| app.draw(frame, sampler)).unwrap();
    }

    /// Presses keys, and draws after each.
    fn press(&mut self, keys: &[KeyCode]) -> String {
        for key in keys {
            let next = self.app.press(KeyEvent::new(*key, KeyModifiers::NONE), &mut self.sampler);
            if next == Next::Sample {
                self.app.sample(&mut self.sampler);
            }
            self.draw();
        }
        self.text()
    }

    fn click(&mut self, column: u16, row: u16) -> String {
        let kind = MouseEventKind::Down(MouseButton::Left);
        let mouse = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
        if self.app.mouse(mouse, &self.sampler) == Next::Sample {
            self.app.sample(&mut self.sampler);
        }
        self.draw();
        self.text()
    }

    fn text(&self) -> String {
        let buffer = self.terminal.backend().buffer();
        let width = usize::from(buffer.area.width);
        let cells: Vec<&str> = buffer.content().iter().map(|cell| cell.symbol()).collect();
        let lines = cells.chunks(width).map(|line| line.concat().trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// The line that has this head, as wide as the screen at most.
fn head<'t>(text: &'t str, first: &str) -> &'t str {
    let is_head = |line: &&str| line.starts_with(first) && line.contains(' ');
    text.lines().find(is_head).unwrap_or_else(|| panic!("no head {first}:\n{text}"))
}

/// Fails if a column's head or one of the cells under it is cut.
fn assert_whole(text: &str, width: u16, first: &str, heads: &[&str]) {
    let line = head(text, first);
    for head in heads {
        assert!(line.contains(head), "{head} is missing or cut at {width}:\n{text}");
    }
    for line in text.lines() {
        assert!(line.width() <= usize::from(width), "{line}");
    }
}

#[test]
fn tables_fit_every_terminal_and_their_columns_are_whole() {
    for size in SIZES {
        let (width, height) = size;
        for domains in [1, 50] {
            let host = host(domains);
            let mut shown = Shown::new(&host, size, settings());
            let text = shown.text();
            let heads = ["STATE", "VCPUS", "%RUN", "%STEAL", "EXIT/s", "MEM", "AGE"];
            assert_whole(&text, width, "NAME", &heads);
            assert_eq!(text.contains("%RUN HISTORY (OWN SCALE)"), width >= 120, "{text}");
            assert!(text.contains("898T"), "the memory is whole:\n{text}");
            let rows = text.lines().filter(|line| line.starts_with("vm")).count();
            assert_eq!(rows, usize::try_from(domains.min(u32::from(height) - 5)).unwrap());
            let heads =
                ["DISK", "READ/s", "WRIT/s", "REQ/s", "RD-LAT", "WR-LAT", "ERRORS", "FILLED"];
            let disks = shown.press(&[KeyCode::Char('2')]);
            assert_whole(&disks, width, "DOMAIN", &heads);
            assert!(disks.contains("988T") && disks.contains("100%"), "{disks}");
            assert_eq!(disks.contains("a-disk-with-a-long-name"), width >= 120, "{disks}");
            assert!(disks.contains("a-disk-with-"), "{disks}");
            assert!(!disks.contains("hdc"), "a drive without a medium:\n{disks}");
            let nets = shown.press(&[KeyCode::Char('3')]);
            assert_whole(&nets, width, "DOMAIN", &["RX/s", "TX/s", "RXPK/s", "ERRORS", "AGE"]);
            assert!(nets.contains("vnet-of-15-chars"), "{nets}");
        }
    }
}

#[test]
fn a_domain_fits_every_terminal_and_its_heads_stay() {
    let host = host(1);
    for size in SIZES {
        let mut shown = Shown::new(&host, size, settings());
        let text = shown.press(&[KeyCode::Enter]);
        let heads = ["STATE", "%RUN", "%STEAL", "%WAIT", "EXIT/s", "AGE"];
        assert_whole(&text, size.0, "VCPU ", &heads);
        assert!(text.contains("2 of 3 vCPUs") && text.contains("running:"), "{text}");
        let bars = text.lines().filter(|l| l.contains(" [") && l.ends_with(']')).count();
        assert_eq!(bars, 2, "whole bars:\n{text}");
        let text = shown.press(&[KeyCode::Char('j'), KeyCode::Char('j')]);
        assert!(text.contains("VCPU  STATE") || size.1 > 24, "the head stays:\n{text}");
        let text = shown.press(&[KeyCode::End]);
        assert!(text.contains("GROUP") && text.contains("not produced"), "{text}");
        if size.1 > 24 {
            assert!(text.contains("without a medium: hdc"), "{text}");
            assert!(text.contains("io_exits"), "{text}");
        }
    }
}

#[test]
fn histories_of_a_disk_fit_every_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let builder = RegionBuilder::new("vm").vcpus(1).blks(2).clock(Clock::Monotonic);
    let Created { unpublished, mut blks, .. } = builder.create_memfd().unwrap();
    let write = |blks: &mut [BlkWriter], requests: u64| {
        let now = domstat_consumer::clock::now(Clock::Monotonic).unwrap();
        for (blk, name) in blks.iter_mut().zip(["vda", "idle"]) {
            // 4 ms for each request.
            let n = if name == "idle" { 7 } else { requests };
            let io = BlkIo { rd_req: Word::from(n), wr_req: Word::from(0), ..BlkIo::NOT_PRODUCED };
            let times = BlkIoTimes {
                rd_total_ns: Word::from(n * 4_000_000),
                wr_total_ns: Word::from(0),
                ..BlkIoTimes::NOT_PRODUCED
            };
            blk.write(&BlkIdentity { name: Name::new(name) }, now);
            blk.write(&io, now);
            blk.write(&times, now);
        }
    };
    write(&mut blks, 0);
    let region = unpublished.publish().unwrap();
    let entry = region.announce(dir.path(), "vm").unwrap();
    let host = Host { _regions: vec![(region, entry)], dir };
    let mut screens = SIZES.map(|size| (size, Shown::new(&host, size, settings())));
    std::thread::sleep(Duration::from_millis(1100));
    write(&mut blks, 100);
    for ((width, _), shown) in &mut screens {
        shown.app.sample(&mut shown.sampler);
        shown.draw();
        let disks = shown.press(&[KeyCode::Char('2')]);
        assert_whole(&disks, *width, "DOMAIN", &["RD-LAT", "FILLED"]);
        let has_graphs = disks.contains("LAT-HIST") && disks.contains("QUE-HIST");
        assert_eq!(has_graphs, *width >= 120, "{disks}");
        let graphs = |text: &str| text.chars().filter(|c| *c == '⢸').count();
        assert_eq!(graphs(&disks), if has_graphs { 2 } else { 0 }, "{disks}");
        // On a small terminal they are below its end.
        let mut domain = shown.press(&[KeyCode::Char('1'), KeyCode::Enter]);
        (0..12).for_each(|_| domain = domain.clone() + "\n" + &shown.press(&[KeyCode::Down]));
        let line = domain.lines().rfind(|line| line.starts_with("vda ")).unwrap();
        assert!(line.contains("4ms") && graphs(line) == 2, "{domain}");
        assert!(domain.contains("LATENCY, ") && domain.contains("QUEUE LENGTH, "), "{domain}");
        let idle = domain.lines().rfind(|line| line.starts_with("idle ")).unwrap();
        assert!(idle.contains(" - ") && graphs(idle) == 0, "no request, no latency: {domain}");
        assert!(domain.lines().all(|line| line.width() <= usize::from(*width)), "{domain}");
    }
}

#[test]
fn help_and_menus_fit_every_terminal() {
    let host = host(1);
    for size in SIZES {
        let mut shown = Shown::new(&host, size, settings());
        assert!(shown.press(&[KeyCode::F(1)]).contains("KEYS"));
        assert!(shown.press(&[KeyCode::End]).contains("domstat top -b -n 1 --json"));
        let menu = shown.press(&[KeyCode::Esc, KeyCode::F(6)]);
        assert!(menu.contains("sort by") && menu.contains("✓ name"), "{menu}");
        let sorted = shown.press(&[KeyCode::Down, KeyCode::Down, KeyCode::Enter]);
        assert!(sorted.contains("▼VCPUS"), "{sorted}");
    }
}

#[test]
fn an_empty_host_says_what_to_do() {
    for size in SIZES {
        let text = Shown::new(&host(0), size, settings()).text();
        for hint in ["No domain is published", "domstat run qemu", "domstat demo", "0 domains"] {
            assert!(text.contains(hint), "{text}");
        }
        assert!(!text.contains("-0"), "{text}");
        assert!(text.contains("exits -") && text.contains("running -"), "{text}");
    }
}

#[test]
fn heads_and_rows_can_be_clicked_and_the_order_reversed() {
    let host = host(3);
    let mut shown = Shown::new(&host, (80, 24), settings());
    let first = |text: &str| text.lines().find(|l| l.starts_with("vm")).unwrap()[..4].to_owned();
    assert_eq!(first(&shown.text()), "vm00");
    let text = shown.click(1, 3);
    assert!(text.contains("NAME▲") && first(&text) == "vm02", "{text}");
    let text = shown.click(1, 3);
    assert!(text.contains("NAME▼") && first(&text) == "vm00", "{text}");
    let at = u16::try_from(head(&text, "NAME").find("MEM").unwrap()).unwrap();
    assert!(shown.click(at, 3).contains("▼MEM"));
    assert!(shown.press(&[KeyCode::Char('T')]).contains("▼%STEAL"));
    assert!(shown.press(&[KeyCode::Char('r')]).contains("▲%STEAL"));
    let text = shown.press(&[KeyCode::Char('>'), KeyCode::Char('<')]);
    assert!(text.contains("▲%STEAL"), "{text}");
    // Twice on a row opens it.
    shown.click(5, 5);
    let text = shown.click(5, 5);
    assert!(text.contains("VCPU  STATE"), "{text}");
    let text = shown.press(&[KeyCode::Esc]);
    assert!(text.contains("3 domains"), "{text}");
}

#[test]
fn a_filter_shows_its_count_and_a_long_list_its_position() {
    let host = host(50);
    let mut shown = Shown::new(&host, (80, 24), settings());
    assert!(shown.text().contains("rows 1-19 of 50"), "{}", shown.text());
    assert!(shown.press(&[KeyCode::PageDown, KeyCode::Down]).contains("rows 3-21 of 50"));
    let typed = ['/', 'v', 'm', '1'].map(KeyCode::Char);
    let text = shown.press(&typed);
    assert!(text.contains("filter vm1: 10 of 50") && text.contains("10 domains"), "{text}");
    let text = shown.press(&[KeyCode::Char('x')]);
    assert!(text.contains("matches none of 50"), "{text}");
    assert!(shown.press(&[KeyCode::Esc]).contains("50 domains"));
}

#[test]
fn what_is_not_live_has_no_rates() {
    let dir = tempfile::tempdir().unwrap();
    let now = domstat_consumer::clock::now(Clock::Monotonic).unwrap();
    let old = Ns(now.0.saturating_sub(60_000_000_000));
    let region = publish(dir.path(), "frozen", old);
    let host = Host { _regions: vec![region], dir };
    let mut shown = Shown::new(&host, (80, 24), settings());
    std::thread::sleep(Duration::from_millis(20));
    shown.app.sample(&mut shown.sampler);
    shown.draw();
    let row = shown.sampler.row("frozen").unwrap();
    assert_eq!((row.standing, row.sums.running, row.sums.steal), ("stale", None, None));
    assert!(row.running.iter().all(Option::is_none), "its graph is blank");
    let text = shown.text();
    assert!(text.contains("1 stale") && text.contains("running -"), "{text}");
}

#[test]
fn chosen_columns_are_shown_in_their_order_and_saved() {
    let host = host(1);
    let chosen = Settings { columns: Some(vec!["memory", "name"]), ..settings() };
    let mut shown = Shown::new(&host, (80, 24), chosen);
    let line = shown.text().lines().nth(3).unwrap().to_owned();
    assert!(line.find("MEM") < line.find("NAME") && !line.contains("%RUN"), "{line}");
    let menu = shown.press(&[KeyCode::Char('c')]);
    assert!(menu.contains("✓ memory") && menu.contains("  running"), "{menu}");
    shown.press(&[KeyCode::Char(' '), KeyCode::Esc]);
    let config = shown.app.settings.config();
    let columns = Some(vec!["name".to_owned()]);
    assert_eq!(
        config,
        Config {
            columns,
            sort: Some("name".to_owned()),
            color: Some(When::Never),
            ..Config::default()
        }
    );
}
