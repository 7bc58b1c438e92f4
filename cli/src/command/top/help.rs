//! The screen that explains the others.

use ratatui::Frame;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::style::Styles;

const HELP: &str = " \
up down PgUp PgDn Home End   select        Enter   look into the domain
 s S   sort by the next, the last column    Esc q   back, out
 r     reverse the order                    /       filter by name, UUID, state
 Space pause                                h ?     this help

 %RUN    time that vCPUs ran: 100 is one whole CPU
 %STEAL  time that they wanted a CPU and had none
 EXIT/s  exits from the domain's code; DISK NET bytes a second; MEM resident
 AGE     since the newest write. Rates are over a second, or between two writes
 -       not known: not produced, or not yet. Never shown as 0

 live     written, and readable
 stale    nothing was written for longer than --stale
 stalled  a writer stopped in mid-update; what it wrote then is not shown
 retired  the domain is gone, its region is not yet
 gone     the producer is gone, its entry was left behind
 error    cannot be attached: look into it

 In a vCPU's bar: █ ran, ▒ wanted to and could not, · waited, blank was offline";

pub(super) fn draw(frame: &mut Frame<'_>, styles: Styles) {
    let mut lines = vec![Line::styled("domstat top: keys, columns, states", styles.title())];
    lines.push(Line::default());
    lines.extend(HELP.lines().map(Line::from));
    frame.render_widget(Paragraph::new(lines), frame.area());
}
