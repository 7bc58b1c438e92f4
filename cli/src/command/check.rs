//! `domstat check`: the layout's rules, checked on a region.

use std::io::{IsTerminal, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use domstat_consumer::attach::Truncated;
use domstat_invariant_checker::{Books, Options, Report, Subject, rfc_v3, watch_steps};
use domstat_layout::{Clock, DomHeader, ReadMem};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::show::seconds;
use super::tapdisk;
use crate::error::Failure;
use crate::locate::{self, Located, Places};
use crate::output::json::Safe;
use crate::output::paint::{Styles, When};
use crate::output::screen::terminal_size;
use crate::view::View;

const EXAMPLES: &str = "\
Examples:
  domstat check web1                 one look
  domstat check web1 --watch 10      adds the rules about change
  domstat check web1 --watch 10 --against $(pidof web1-vmm)
                                     compare with the process's threads
  domstat check ./some.region --json | jq '.rules[].outcome'

Exit codes: 0 no rule failed, 1 a rule failed, 3 there is no region to judge. \
A rule that is not checkable here is reported as such and is not a failure.

With --against, no vCPU may claim to have run longer than a thread of that process did, by the \
kernel's books (/proc/PID/task/TID/schedstat). Allowed are --tolerance percent of the time \
watched, and 20 ms, by which these books can be late.

A region in the vCPU-only layout of Xen's RFC v3 (magic 0xaabbccdd) is recognized by its magic and \
judged by that layout's rules; so is a file in which tapdisk counts, by rules of its own (T01 to T05).";

/// Check a region against every rule of the layout
#[derive(ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Domain name, path of a region, or xen:DOMID for the region that the hypervisor writes
    domain: String,
    /// Keep looking for this long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    watch: Option<Duration>,
    /// Time between two looks while watching
    #[arg(long, value_name = "SECONDS", default_value = "0.01", value_parser = seconds, requires = "watch")]
    interval: Duration,
    /// The process whose threads run the vCPUs: compare their times with the vCPUs'
    #[arg(long, value_name = "PID", requires = "watch", value_parser = clap::value_parser!(u32).range(1..))]
    against: Option<u32>,
    /// How much longer than its thread a vCPU may claim to run, in percent of the time watched
    #[arg(long, value_name = "PERCENT", default_value = "5", requires = "against", value_parser = clap::value_parser!(u16).range(0..=1000))]
    tolerance: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
    if let Some(layout) = tapdisk::layout_of(&args.domain) {
        let path = Path::new(&args.domain);
        return tapdisk::check(path, layout, args.watch, args.interval, args.json);
    }
    let report = match places.locate(&args.domain)? {
        Located::Served(connection) => {
            let region = connection.attach(&args.domain)?;
            let file = region.files().next();
            let what = What { name: &args.domain, mem: region.mem(), file, is_written: true };
            judge(args, &what, false, || region.intact())
        }
        Located::At(path) => {
            let mapped = locate::map(&args.domain, &path)?;
            // The frames of a hypervisor are not those of the file through which they are mapped.
            let is_xen = locate::xen_domid(&args.domain).is_some();
            let (name, file) = match is_xen {
                true => (args.domain.clone(), None),
                false => (path.display().to_string(), Some(mapped.file())),
            };
            let is_written = mapped.is_held() != Some(false);
            let what = What { name: &name, mem: mapped.mem(), file, is_written };
            judge(args, &what, mapped.is_rfc_v3(), || mapped.intact())
        }
    }?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let json = serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?;
        writeln!(out, "{}", Safe(&json))?;
    } else {
        match terminal_size() {
            Some((width, _)) => {
                let view = View { styles: Styles::new(When::Auto), width };
                view.styles.print(&mut out, &lines(&report.to_string(), view))?;
            }
            None => write!(out, "{report}")?,
        }
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Columns before a rule's title: its id and its outcome.
const TITLE: usize = 20;

/// A report in lines of a terminal's width.
fn lines(report: &str, view: View) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for line in report.lines() {
        let is_rule = line.starts_with(['I', 'R']) && line.is_char_boundary(TITLE);
        let (first, text) = match (is_rule, line.trim_start()) {
            (true, _) => line.split_at(TITLE),
            (false, text) => line.split_at(line.len() - text.len()),
        };
        let style = match first.split_whitespace().nth(1) {
            Some("pass") => view.styles.good(),
            Some("fail") => view.styles.bad(),
            _ => Style::new(),
        };
        let inner = View { width: view.width.saturating_sub(first.len()).max(20), ..view };
        for (nth, mut line) in inner.words(text).into_iter().enumerate() {
            let before = if nth == 0 { first.to_owned() } else { " ".repeat(first.len()) };
            line.spans.insert(0, Span::styled(before, style));
            lines.push(line);
        }
    }
    lines
}

/// The region to judge.
struct What<'a> {
    name: &'a str,
    mem: ReadMem<'a>,
    file: Option<BorrowedFd<'a>>,
    /// Whether there may be a producer.
    is_written: bool,
}

fn judge(
    args: &Args,
    what: &What<'_>,
    is_rfc_v3: bool,
    intact: impl Fn() -> Result<(), Truncated>,
) -> Result<Report, Failure> {
    let options = Options { books_tolerance_percent: args.tolerance.into(), ..Options::default() };
    let start = Instant::now();
    let progress = args.watch.is_some() && std::io::stderr().is_terminal();
    let step = |looks| {
        let Some(time) = args.watch else { return false };
        let passed = start.elapsed();
        if progress {
            let s = if looks == 1 { "" } else { "s" };
            eprint!(
                "\r{looks} look{s}, {:.0} of {:.0} s ",
                passed.as_secs_f64(),
                time.as_secs_f64()
            );
        }
        std::thread::sleep(args.interval.min(time.saturating_sub(passed)));
        start.elapsed() < time && intact().is_ok()
    };
    let report = if is_rfc_v3 {
        rfc_v3::watch_steps(what.mem, &options, step)
    } else {
        let mut subject = Subject::new(what.mem);
        if let Some(file) = what.file {
            subject = subject.with_file(file);
        }
        if !what.is_written {
            subject = subject.without_writer();
        }
        if let Some(pid) = args.against {
            let clock = DomHeader::load(what.mem).map_or(0, |header| header.clock);
            let books = move || {
                Books::of_process(pid, || domstat_consumer::clock::now(Clock::from_number(clock)))
            };
            books().map_err(|source| {
                let action = format!("read the books of process {pid}");
                Failure::Check { action, source }
            })?;
            subject = subject.with_books(move || books().ok());
        }
        watch_steps(&subject, &options, step)
    };
    if progress {
        eprint!("\r\x1b[K");
    }
    // After a truncation, the bytes that were judged were not the region's.
    intact().map_err(|source| Failure::Lost { domain: what.name.to_owned(), source })?;
    report.map_err(|source| Failure::NotAttachable { path: what.name.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_keeps_its_columns_on_a_narrow_terminal() {
        let report = "I21  pass           every active group was published before the region became visible\n\
                      I26  not checkable  no vCPU runs longer than its thread\n     use --against PID\n\
                      PASS: 25 rules passed\n";
        let shown = lines(report, View { styles: Styles::new(When::Never), width: 60 });
        let shown: Vec<_> = shown.iter().map(Line::to_string).collect();
        let expected = [
            "I21  pass           every active group was published before",
            "                    the region became visible",
            "I26  not checkable  no vCPU runs longer than its thread",
            "     use --against PID",
            "PASS: 25 rules passed",
        ];
        assert_eq!(shown, expected);
    }
}
