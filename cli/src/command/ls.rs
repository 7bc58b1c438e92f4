//! `domstat ls`: the domains that are published.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use domstat_consumer::attach::Truncated;
use domstat_consumer::fleet::parts::Part;
use domstat_consumer::{Attachment, Liveness, Snapshot};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use crate::error::Failure;
use crate::locate::{self, Entry, Places};
use crate::output::human::{clip, duration, or_absent};
use crate::output::json::Safe;
use crate::output::paint::{Styles, When};
use crate::output::screen::{Screen, terminal_size};
use crate::output::{self, Seen, entry_name, identity, plain, printable};
use crate::rows::Interval;
use crate::signals::Stop;
use crate::view::View;

mod prune;

const EXAMPLES: &str = "\
Examples:
  domstat ls
  domstat ls --watch
  domstat ls --json | jq -r '.[] | select(.liveness == \"live\") | .entry'
  domstat ls --prune                 remove entries that were left behind
  sudo domstat ls --scan             domains in jails, with their users

STATE is what hypervisor or VMM says of the domain (running, paused, suspended, shutdown, crashed, \
dying, migrating, io_error), or hung while it does not answer. Where nobody says, or the statistics \
are not live, it is how these stand: live, stale (no write for 10 s), stalled (a writer stopped halfway through an update), \
unheld (a file without a producer), dead (the producer has exited), restarted, retired (the domain \
has ended) or lost (the memory is no longer there); not_permitted, invalid, timed_out or error if it \
cannot be attached.

Exit status: 3 if there are domains and none of them may be read.";

/// List the domains that are published on this host
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the names of domains only, one a line
    #[arg(long, conflicts_with_all = ["json", "watch", "prune"])]
    names: bool,
    /// Repeat the list until Ctrl-C
    #[arg(long, conflicts_with = "prune")]
    watch: bool,
    /// Time between two lists
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = super::show::seconds, requires = "watch")]
    interval: Duration,
    /// Remove entries and sockets that producers left behind when they exited, and say which
    ///
    /// An entry names its producer by process id. Do not prune a directory that containers with
    /// process ids of their own share.
    #[arg(long, conflicts_with = "json")]
    prune: bool,
    /// When to use colors
    #[arg(long, value_enum, default_value = "auto")]
    color: When,
}

/// Notes under the table, at most: one cause can have thousands of effects.
const MAX_NOTES: usize = 10;
/// Columns of all cells but the name, with what separates them.
const CELLS: usize = STATE + 1 + 6 + 9 + 7 + 5;
/// Columns of the longest word for how a domain stands.
const STATE: usize = 13;
/// The word for a domain whose producer has exited.
const DEAD: &str = Liveness::Dead.name();

pub(crate) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
    locate::raise_limit_of_files();
    if args.prune {
        return prune::run(places);
    }
    let mut out = std::io::stdout().lock();
    if args.names {
        // A name that cannot be typed is of no use to a shell.
        for entry in places.all()?.iter().filter(|entry| printable(&entry.name) == entry.name) {
            writeln!(out, "{}", entry.name)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let stop = if args.watch { Some(Stop::on_signals()?) } else { None };
    let mut screen =
        Screen::new(args.watch && out.is_terminal() && !args.json, Styles::new(args.color));
    loop {
        let found = places.all()?;
        let looks: Vec<_> = found.iter().map(|entry| Look::at(entry, &found)).collect();
        if args.json {
            let list: Value = looks.iter().map(Look::json).collect();
            match args.watch {
                true => writeln!(out, "{}", Safe(&list))?,
                false => writeln!(out, "{:#}", Safe(&list))?,
            }
        } else if looks.is_empty() {
            let hint = "publish one with domstat run, or try domstat demo";
            let text = format!("no domain is published {}: {hint}", places.describe()?);
            let width = terminal_size().map(|(width, _)| width);
            screen.draw(&mut out, |styles, _| wrapped(&text, styles, width))?;
        } else {
            let width = terminal_size().map(|(width, _)| width);
            screen.draw(&mut out, |styles, _| lines(&looks, styles, width))?;
        }
        out.flush()?;
        if stop.as_ref().is_none_or(|stop| stop.wait(args.interval)) {
            let unreadable = |look: &Look<'_>| look.seen.is_err() && !look.is_left_behind();
            let none = !looks.is_empty() && looks.iter().all(unreadable);
            return Ok(if none { ExitCode::from(3) } else { ExitCode::SUCCESS });
        }
    }
}

/// An entry, and what a look at its region found.
struct Look<'a> {
    entry: &'a Entry,
    seen: Result<(&'a Attachment, Snapshot, Seen), String>,
    /// The domain that it is a part of, or why it is not joined.
    part: Option<Part<'a>>,
}

impl<'a> Look<'a> {
    fn at(entry: &'a Entry, all: &'a [Entry]) -> Self {
        let look = |attachment: &'a Attachment| -> Result<_, Truncated> {
            let region = attachment.region();
            let mut snapshot = Snapshot::new();
            let liveness = attachment.snapshot(&mut snapshot);
            let seen = Seen { liveness, state: region.status().state };
            region.intact()?;
            Ok((attachment, snapshot, seen))
        };
        let seen = match &entry.attachment {
            Ok(attachment) => look(attachment).map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        let find = |name: &str| {
            let at = all.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
            let Entry { name, attachment, .. } = all.get(at)?;
            Some((name.as_str(), attachment.as_ref().ok()?))
        };
        let attachment = entry.attachment.as_ref().ok();
        let part = attachment.and_then(|own| Part::among(&entry.name, own, find));
        Self { entry, seen, part }
    }

    /// One word for the domain, and how to paint it.
    fn state(&self, styles: Styles) -> (&'static str, Style) {
        let standing = self.standing();
        let word = match &self.seen {
            Ok((_, snapshot, seen)) => {
                Interval::new(snapshot, None, &seen.liveness, super::show::STALE)
                    .word(seen.liveness)
            }
            Err(_) => standing,
        };
        let style = match word == standing {
            true => styles.standing(standing),
            false => styles.status(word),
        };
        (word, style)
    }

    /// One word for how the domain's statistics stand.
    fn standing(&self) -> &'static str {
        match (&self.seen, &self.entry.attachment) {
            (Ok((_, _, seen)), _) => seen.liveness.name(),
            (Err(_), Ok(attachment)) => attachment.liveness().name(),
            (Err(_), Err(e)) => e.name(),
        }
    }

    /// Whether its producer has exited and left the entry behind.
    fn is_left_behind(&self) -> bool {
        matches!(&self.entry.attachment, Err(e) if e.name() == DEAD)
    }

    fn json(&self) -> Value {
        let Entry { name, place, .. } = self.entry;
        let path = place.display().to_string();
        let mut map = match &self.seen {
            Ok((attachment, snapshot, seen)) => {
                output::json::summary(attachment.region(), snapshot, *seen)
            }
            Err(e) => {
                [("name", Value::Null), ("liveness", json!(self.standing())), ("error", json!(e))]
                    .map(|(key, value)| (key.to_owned(), value))
                    .into_iter()
                    .collect()
            }
        };
        map.insert("entry".to_owned(), json!(name));
        map.insert("path".to_owned(), json!(path));
        match self.part {
            Some(part) if part.is_joined() => {
                map.insert("part_of".to_owned(), json!(part.domain));
            }
            Some(part) => {
                map.insert("not_part_of".to_owned(), json!(part.domain));
                map.insert("reason".to_owned(), json!(part.relation.to_string()));
            }
            None => {}
        }
        if let Some(owner) = self.entry.owner {
            map.insert("pid".to_owned(), json!(owner.pid));
            map.insert("uid".to_owned(), json!(owner.uid));
        }
        Value::Object(map)
    }

    /// Name, vCPUs, domid, age and revision.
    fn cells(&self) -> [String; 5] {
        let absent = || output::ABSENT.to_owned();
        let Ok((attachment, snapshot, seen)) = &self.seen else {
            return [printable(&self.entry.name), absent(), absent(), absent(), absent()];
        };
        let interval = Interval::new(snapshot, None, &seen.liveness, super::show::STALE);
        let identity = identity(snapshot);
        let own = identity.as_ref().and_then(|i| i.name.as_str());
        let age = snapshot.newest_write().and_then(|newest| Some(snapshot.taken()?.since(newest)));
        [
            match self.entry.owner {
                Some(owner) => format!("{} (user {})", printable(&self.entry.name), owner.uid),
                None => entry_name(&self.entry.name, own),
            },
            interval.vcpus().count().to_string(),
            identity.map_or_else(absent, |i| plain(i.domid.get())),
            or_absent(age, duration),
            attachment.region().header().revision.to_string(),
        ]
    }
}

/// A row for each entry, and what to know of those that cannot be read.
fn lines(looks: &[Look<'_>], styles: Styles, width: Option<usize>) -> Vec<Line<'static>> {
    let rows: Vec<_> = looks.iter().map(|look| (look.state(styles), look.cells())).collect();
    let widest = rows.iter().map(|(_, [name, ..])| name.width()).max().unwrap_or(0).max(4);
    let name_width = width.map_or(widest, |width| widest.min(width.saturating_sub(CELLS).max(8)));
    let pad = |text: &str| {
        let text = clip(text, name_width);
        let blank = " ".repeat(name_width.saturating_sub(text.width()));
        text + &blank
    };
    let heads = format!(
        "{} {:<STATE$} {:>5} {:>8} {:>6} {:>4}",
        pad("NAME"),
        "STATE",
        "VCPUS",
        "DOMID",
        "AGE",
        "REV"
    );
    let mut lines = vec![Line::styled(heads, styles.title())];
    for ((word, style), [name, vcpus, domid, age, revision]) in rows {
        lines.push(Line::from(vec![
            Span::raw(pad(&name) + " "),
            Span::styled(format!("{word:<STATE$}"), style),
            Span::raw(format!(" {vcpus:>5} {domid:>8} {age:>6} {revision:>4}")),
        ]));
    }
    for note in notes(looks) {
        lines.extend(wrapped(&note, styles, width));
    }
    lines
}

/// Text in lines of a terminal's width; in one line elsewhere.
fn wrapped(text: &str, styles: Styles, width: Option<usize>) -> Vec<Line<'static>> {
    match width {
        Some(width) => View { styles, width }.words(text),
        None => vec![Line::raw(text.to_owned())],
    }
}

fn notes(looks: &[Look<'_>]) -> Vec<String> {
    let dead = looks.iter().filter(|look| look.is_left_behind());
    let mut notes = Vec::new();
    match dead.count() {
        0 => {}
        1 => notes.push(
            "1 entry was left behind by its producer: domstat ls --prune removes it".to_owned(),
        ),
        n => notes.push(format!(
            "{n} entries were left behind by their producers: domstat ls --prune removes them"
        )),
    }
    let refused = looks.iter().filter_map(|look| Some((look, look.part?)));
    let refused: Vec<_> = refused.filter(|(_, part)| !part.is_joined()).collect();
    for (look, part) in refused.iter().take(MAX_NOTES) {
        let (name, domain) = (printable(&look.entry.name), printable(part.domain));
        notes.push(format!("{name} is no part of {domain}: {}", part.relation));
    }
    if refused.len() > MAX_NOTES {
        notes.push(format!("and {} others: see --json", refused.len() - MAX_NOTES));
    }
    let failed: Vec<_> = looks
        .iter()
        .filter_map(|look| Some((look, look.seen.as_ref().err()?)))
        .filter(|(look, _)| !look.is_left_behind())
        .collect();
    let (no_files, others): (Vec<_>, Vec<_>) =
        failed.into_iter().partition(|(look, _)| lacks_descriptors(look.entry));
    if let [(first, _), more @ ..] = no_files.as_slice() {
        let name = printable(&first.entry.name);
        let whose =
            if more.is_empty() { name } else { format!("{name} and {} others", more.len()) };
        notes.push(format!("{whose}: too many open files: raise the limit (ulimit -n)"));
    }
    for (look, error) in others.iter().take(MAX_NOTES) {
        notes.push(format!("{}: {}", printable(&look.entry.name), printable(error)));
    }
    if others.len() > MAX_NOTES {
        notes.push(format!(
            "and {} others that cannot be read: see --json",
            others.len() - MAX_NOTES
        ));
    }
    notes
}

/// Whether an entry could not be attached because this process or the host has no descriptor left.
fn lacks_descriptors(entry: &Entry) -> bool {
    use rustix::io::Errno;
    let mut source = entry.attachment.as_ref().err().map(|e| e as &dyn std::error::Error);
    while let Some(error) = source {
        let number = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        if number
            .is_some_and(|n| n == Errno::MFILE.raw_os_error() || n == Errno::NFILE.raw_os_error())
        {
            return true;
        }
        source = error.source();
    }
    false
}
