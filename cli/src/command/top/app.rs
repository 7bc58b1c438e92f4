//! The screens, and what is on them.

use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyEventKind};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::{DefaultTerminal, Frame, widgets::Paragraph};

use super::columns::{DISKS, DOMAINS, NARROW, NETS, WIDE, WIDE_FROM, known, named};
use super::domain::Domain;
use super::events::Events;
use super::header::{self, Header};
use super::host::Host;
use super::menu::Menu;
use super::sampler::{Disk, Net, Row, Sampler};
use super::settings::Settings;
use super::table::{self, Column, Cursor, Grid, Order, TableRow};
use super::{help, tty};
use crate::error::Failure;
use crate::output::paint::Styles;
use crate::rows::VcpuThreads;
use crate::signals::Stop;
use crate::view::SteadyHead;

/// A table of all domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Domains,
    Disks,
    Nets,
}

/// What is on the screen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Screen {
    Table(Tab),
    /// One domain, by its entry, the first line that is shown, and where Esc leads.
    Domain {
        entry: String,
        scroll: usize,
        from: Tab,
    },
}

/// What lies over the screen.
#[derive(Debug)]
pub(super) enum Overlay {
    Help { scroll: usize },
    SortBy(Menu),
    Columns(Menu),
}

/// What a key or a click asks the loop to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Stay,
    Sample,
    Suspend,
    Quit,
}

/// The program as the keys left it.
pub(super) struct App {
    pub(super) screen: Screen,
    pub(super) overlay: Option<Overlay>,
    pub(super) settings: Settings,
    pub(super) disk_order: Order,
    pub(super) net_order: Order,
    pub(super) domain_cursor: Cursor,
    pub(super) disk_cursor: Cursor,
    pub(super) net_cursor: Cursor,
    pub(super) typing: bool,
    pub(super) paused: bool,
    pub(super) notice: Option<String>,
    pub(super) host: Host,
    /// The area that was drawn last, for the mouse.
    pub(super) area: Rect,
    pub(super) disks: Vec<Disk>,
    pub(super) nets: Vec<Net>,
    events: Events,
    /// Of the domain that is looked at.
    threads: VcpuThreads,
    head: SteadyHead,
    styles: Styles,
    place: String,
}

impl App {
    pub(super) fn new(settings: Settings, place: String) -> Self {
        Self {
            screen: Screen::Table(Tab::Domains),
            overlay: None,
            styles: Styles::new(settings.color),
            settings,
            disk_order: Order { column: "written", reverse: false },
            net_order: Order { column: "received", reverse: false },
            domain_cursor: Cursor::default(),
            disk_cursor: Cursor::default(),
            net_cursor: Cursor::default(),
            typing: false,
            paused: false,
            notice: None,
            host: Host::default(),
            area: Rect::default(),
            disks: Vec::new(),
            nets: Vec::new(),
            events: Events::default(),
            threads: VcpuThreads::default(),
            head: SteadyHead::default(),
            place,
        }
    }

    /// Draws until the user quits.
    pub(super) fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        sampler: &mut Sampler,
        count: Option<u64>,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let mut shown = 0;
        let mut due = Instant::now();
        loop {
            if Instant::now() >= due {
                due = (due + self.settings.interval).max(Instant::now());
                if !self.paused {
                    self.sample(sampler);
                }
                shown += 1;
            }
            terminal.draw(|frame| self.draw(frame, sampler))?;
            if count.is_some_and(|count| shown >= count) || stop.wait(Duration::ZERO) {
                return Ok(());
            }
            // Several keys may have come; all are heard before the next sample.
            while event::poll(due.saturating_duration_since(Instant::now()))? {
                let next = match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        self.press(key, sampler)
                    }
                    Event::Mouse(mouse) => self.mouse(mouse, sampler),
                    _ => Next::Stay,
                };
                match next {
                    Next::Stay => {}
                    Next::Sample => {
                        self.sample(sampler);
                        due = due.min(Instant::now() + self.settings.interval);
                    }
                    Next::Suspend => tty::suspend(terminal)?,
                    Next::Quit => return Ok(()),
                }
                terminal.draw(|frame| self.draw(frame, sampler))?;
            }
        }
    }

    pub(super) fn sample(&mut self, sampler: &mut Sampler) {
        sampler.set_interval(self.settings.interval);
        self.notice = sampler.sample().err().map(|e| e.to_string());
        self.host.look();
        match &self.screen {
            Screen::Table(Tab::Disks) => self.disks = sampler.disks(),
            Screen::Table(Tab::Nets) => self.nets = sampler.nets(),
            Screen::Table(Tab::Domains) => {}
            Screen::Domain { entry, .. } => {
                if let (Some(row), Some(region)) = (sampler.row(entry), sampler.region(entry)) {
                    self.events.sample(entry, region, row.snapshot());
                    self.threads = VcpuThreads::of(region);
                }
            }
        }
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, sampler: &Sampler) {
        self.area = frame.area();
        if let Some(Overlay::Help { scroll }) = &mut self.overlay {
            *scroll = (*scroll).min(help::draw(frame, self.styles, *scroll));
            return;
        }
        if let Screen::Domain { entry, scroll, from } = &mut self.screen {
            match sampler.row(entry) {
                Some(row) => {
                    let domain = Domain {
                        row,
                        region: sampler.region(entry),
                        events: &self.events,
                        threads: &self.threads,
                        styles: self.styles,
                        paused: self.paused,
                        interval: self.settings.interval,
                    };
                    *scroll = (*scroll).min(domain.draw(frame, *scroll, &mut self.head));
                }
                None => {
                    self.notice = Some(format!("{entry} has left"));
                    self.screen = Screen::Table(*from);
                }
            }
        }
        if let Screen::Table(tab) = self.screen {
            match tab {
                Tab::Domains => self.draw_domains(frame, sampler),
                Tab::Disks => self.draw_disks(frame, sampler),
                Tab::Nets => self.draw_nets(frame, sampler),
            }
        }
        if let Some(Overlay::SortBy(menu) | Overlay::Columns(menu)) = &self.overlay {
            menu.draw(frame, self.styles);
        }
    }

    /// The columns of domains that are shown.
    pub(super) fn columns(&self) -> Vec<&'static Column<Row>> {
        let width = usize::from(self.area.width);
        match &self.settings.columns {
            Some(columns) => named(&DOMAINS, columns),
            None if width >= WIDE_FROM => named(&DOMAINS, WIDE),
            None => named(&DOMAINS, NARROW),
        }
    }

    /// Domains as they are listed.
    pub(super) fn rows<'s>(&self, sampler: &'s Sampler) -> Vec<&'s Row> {
        let mut rows: Vec<_> =
            sampler.rows().filter(|row| row.matches(&self.settings.filter)).collect();
        table::sort(&mut rows, &DOMAINS, &self.settings.order);
        rows
    }

    /// Disks as they are listed.
    pub(super) fn disk_rows(&self) -> Vec<&Disk> {
        let mut rows: Vec<_> =
            self.disks.iter().filter(|disk| disk.matches(&self.settings.filter)).collect();
        table::sort(&mut rows, &DISKS, &self.disk_order);
        rows
    }

    /// Interfaces as they are listed.
    pub(super) fn net_rows(&self) -> Vec<&Net> {
        let mut rows: Vec<_> =
            self.nets.iter().filter(|net| net.matches(&self.settings.filter)).collect();
        table::sort(&mut rows, &NETS, &self.net_order);
        rows
    }

    fn draw_domains(&mut self, frame: &mut Frame<'_>, sampler: &Sampler) {
        let mut cursor = std::mem::take(&mut self.domain_cursor);
        let listed = Listed {
            rows: &self.rows(sampler),
            all: sampler.rows().len(),
            columns: &self.columns(),
            order: &self.settings.order,
            none: self.no_domain(),
        };
        self.draw_table(frame, sampler, &listed, &mut cursor);
        self.domain_cursor = cursor;
    }

    fn draw_disks(&mut self, frame: &mut Frame<'_>, sampler: &Sampler) {
        let mut cursor = std::mem::take(&mut self.disk_cursor);
        let listed = Listed {
            rows: &self.disk_rows(),
            all: self.disks.len(),
            columns: &known(&DISKS, &self.disk_rows()),
            order: &self.disk_order,
            none: self.none(sampler, "a disk", "run libvirt, run qemu, run xen and run kvm do"),
        };
        self.draw_table(frame, sampler, &listed, &mut cursor);
        self.disk_cursor = cursor;
    }

    fn draw_nets(&mut self, frame: &mut Frame<'_>, sampler: &Sampler) {
        let mut cursor = std::mem::take(&mut self.net_cursor);
        let listed = Listed {
            rows: &self.net_rows(),
            all: self.nets.len(),
            columns: &known(&NETS, &self.net_rows()),
            order: &self.net_order,
            none: self.none(sampler, "an interface", "run libvirt, run qemu and run xen do"),
        };
        self.draw_table(frame, sampler, &listed, &mut cursor);
        self.net_cursor = cursor;
    }

    /// Why there is no device in a table.
    fn none(&self, sampler: &Sampler, what: &str, who: &str) -> String {
        match sampler.rows().len() {
            0 => self.no_domain(),
            _ => format!("No domain publishes {what}. domstat {who}."),
        }
    }

    fn no_domain(&self) -> String {
        format!(
            "No domain is published {}.\n\n\
             Publish one:\n  \
             domstat run qemu --qmp-dir DIR     each VM with a QMP socket there\n  \
             domstat run process --pid PID      the threads of a process\n\n\
             Or try it: domstat demo",
            self.place
        )
    }

    fn draw_table<R: TableRow>(
        &self,
        frame: &mut Frame<'_>,
        sampler: &Sampler,
        listed: &Listed<'_, R>,
        cursor: &mut Cursor,
    ) {
        let [top, body, foot] = layout(frame.area());
        cursor.follow(listed.rows, usize::from(body.height.saturating_sub(1)));
        let every: Vec<&Row> = sampler.rows().collect();
        let shown = match self.screen {
            Screen::Table(Tab::Domains) => self.rows(sampler),
            _ => every.clone(),
        };
        let header = Header {
            rows: &shown,
            every: &every,
            host: &self.host,
            styles: self.styles,
            paused: self.paused,
            filter: &self.settings.filter,
            matching: listed.rows.len(),
            all: listed.all,
            position: cursor.position(listed.rows.len()),
            notice: self.notice.as_deref(),
        };
        let width = usize::from(frame.area().width);
        frame.render_widget(Paragraph::new(header.lines(width)), top);
        let grid = Grid::fit(listed.columns, listed.rows, width);
        table::draw(frame, body, &grid, listed.rows, cursor, listed.order, self.styles);
        if listed.rows.is_empty() {
            let below = Rect { y: body.y + 1, height: body.height.saturating_sub(1), ..body };
            let text = match listed.all {
                0 => listed.none.clone(),
                all => format!("The filter matches none of {all}. Esc clears it."),
            };
            frame.render_widget(Paragraph::new(text), below);
        }
        frame.render_widget(Paragraph::new(self.foot(listed.order)), foot);
    }

    fn foot(&self, order: &Order) -> Line<'static> {
        if self.typing {
            return Line::from(format!("filter by name, UUID or state: {}_", self.settings.filter));
        }
        let direction = if order.reverse { ", reversed" } else { "" };
        let foot = |order: &str| {
            format!(
                "1:domains 2:disks 3:nets  Enter open  / filter  F6 sort{order}  h help  q quit"
            )
        };
        let text = foot(&format!(": {}{direction}", order.column));
        // An arrow at its head shows the order, too.
        let fits = text.len() <= usize::from(self.area.width);
        Line::styled(if fits { text } else { foot("") }, self.styles.dim())
    }
}

/// What a table is drawn from.
struct Listed<'a, R: 'static> {
    /// Filtered and sorted.
    rows: &'a [&'a R],
    /// How many there are without the filter.
    all: usize,
    columns: &'a [&'static Column<R>],
    order: &'a Order,
    /// Shown where there is none.
    none: String,
}

/// Header, table and foot.
pub(super) fn layout(area: Rect) -> [Rect; 3] {
    Layout::vertical([
        Constraint::Length(header::HEIGHT),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area)
}
