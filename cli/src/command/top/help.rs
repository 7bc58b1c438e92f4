//! The screen that explains the others.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use crate::output::paint::Styles;

const HELP: &str = "\
KEYS
 up down PgUp PgDn Home End wheel  select     Enter, second click open domain
 1 2 3 Tab  domains, disks, interfaces        Esc q               back, quit
 F6 s       choose the column to sort by      < >                 previous, next
 P T E D N M A   sort by %RUN, %STEAL, EXIT/s, DISK, NET, MEM, AGE
 click on a head sorts by it; again, or r or I: reversed
 / F4       filter by name, UUID or state     Space Z             pause
 F2 c       choose columns                    + -                 slower, faster
 W          save columns, order, interval     Ctrl-Z              suspend

COLUMNS
 %RUN    time that vCPUs ran; 100 is one whole CPU. Sums are in CPUs
 %STEAL  time that vCPUs were runnable but not running
 EXIT/s  exits from the domain's code         MEM   resident, else given
 AGE     since the newest write               given host memory given to domains
 -       not known: not produced, or not yet; never shown as 0
 Rates are over one second or one interval, or between the last two writes of
 a group that is written less often. What is not live or overdue has none.

STATES, or while it is live what the VMM says: running, paused, io_error ...
 live       written recently                  stale     no update for --stale
 stalled    a writer stopped halfway through an update; that group is not shown
 unheld     a file without a producer         dead      the producer has exited
 restarted  another region took its place     retired   the domain has ended
 lost       its memory was taken away
 not_permitted  invalid  timed_out  error     cannot be attached; Enter says why

 In a vCPU's bar: █ running, ▒ runnable (steal), · blocked, blank offline

LIMITS, QUEUES AND LATENCIES, where they are known
 %THROT  periods with the CPU limit used up   %PRESS threads waited, of the time
 P50 P99 half of, 99 of 100 requests took at most that long
 QUEUE   mean requests in flight              THR-s/s waiting for a limit
 LAT-HIST, QUE-HIST  mean time of a request and mean requests in flight, a dot
         for five samples, the highest of them; minutes at the usual interval

EXAMPLES
 domstat top --sort steal                     who waits for CPUs
 domstat top --filter stale                   only domains without news
 domstat top -b -n 1 --json | jq -r '.[] | select(.steal > 0.2) | .entry'
";

/// Draws from line `scroll` on; returns the last line from which that makes sense.
pub(super) fn draw(frame: &mut Frame<'_>, styles: Styles, scroll: usize) -> usize {
    let areas: [Rect; 2] =
        Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
    let [body, foot] = areas;
    let lines: Vec<Line<'_>> = HELP
        .lines()
        .map(|line| match line.chars().next() {
            Some(c) if c.is_ascii_uppercase() => Line::styled(line, styles.title()),
            _ => Line::raw(line),
        })
        .collect();
    let most = lines.len().saturating_sub(usize::from(body.height));
    let from = scroll.min(most);
    frame.render_widget(Paragraph::new(lines.split_at(from).1.to_vec()), body);
    let more = if from < most { "  down: more" } else { "" };
    frame.render_widget(
        Paragraph::new(Line::styled(format!("any key: back{more}"), styles.dim())),
        foot,
    );
    most
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn every_line_fits_a_terminal_of_80_columns() {
        for line in super::HELP.lines() {
            assert!(line.width() <= 80, "{line}");
        }
    }
}
