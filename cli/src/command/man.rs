//! `domstat man`: manual pages.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap_mangen::Man;

use crate::error::Failure;

/// Write the manual pages, one for each command
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  domstat man --out /usr/local/share/man/man1 && man domstat-top"
)]
pub(crate) struct Args {
    /// The directory that they are written to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Date of the release; before one, of the pages' last change.
const DATE: &str = "2026-11-24";

const ENVIRONMENT: &[(&str, &str)] = &[
    ("DOMSTAT_DIR", "Directory of regions and sockets; as --dir."),
    ("DOMSTAT_SOCKET", "Socket of a daemon, which alone is read from or served at; as --socket."),
    (
        "XDG_RUNTIME_DIR",
        "Without DOMSTAT_DIR, regions of users other than root are in domstat in this directory.",
    ),
    ("NO_COLOR", "If it is set and not empty, there are no colors."),
];

const FILES: &[(&str, &str)] = &[
    ("/run/domstat", "Directory of regions and sockets for root, without DOMSTAT_DIR."),
    ("NAME.domstat", "Entry of a domain in that directory."),
    ("NAME.sock", "Socket of a daemon in that directory, which hands over regions."),
    ("control.sock", "Socket of a daemon's commands and events: domstat block and events."),
    (
        "$XDG_CONFIG_HOME/domstat/top.toml",
        "Configuration of domstat top; without XDG_CONFIG_HOME in ~/.config.",
    ),
];

const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1", "A rule of the layout is broken, or two layouts are incompatible."),
    ("2", "Wrong usage."),
    ("3", "A region cannot be attached or published, or none of those listed may be read."),
    ("4", "Anything else."),
    ("5", "The threshold that is waited for was replaced, disarmed or lost."),
    ("6", "The daemon died while its events or its answer were waited for."),
];

pub(crate) fn run(args: &Args, command: clap::Command) -> Result<ExitCode, Failure> {
    let os = |action| move |source| Failure::Os { action, source };
    std::fs::create_dir_all(&args.out).map_err(os("create the directory"))?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let pages = pages(&command, "domstat", "", &[]).map_err(os("write manual pages"))?;
    for (name, page) in pages {
        std::fs::write(args.out.join(name), page).map_err(os("write a manual page"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The page of a command and those of its subcommands, with their files' names. `examples` are those
/// of the command above.
fn pages(
    command: &clap::Command,
    name: &str,
    examples: &str,
    others: &[String],
) -> io::Result<Vec<(String, String)>> {
    let subcommands: Vec<_> = command.get_subcommands().filter(|c| !c.is_hide_set()).collect();
    let names: Vec<_> = subcommands.iter().map(|c| format!("{name}-{}", c.get_name())).collect();
    let mut see = names.clone();
    see.extend(others.iter().filter(|other| *other != name).cloned());
    let mut page = Vec::new();
    let after = command.get_after_long_help().or(command.get_after_help());
    let after = after.map(ToString::to_string).unwrap_or_default();
    let own = match after.contains("Example") {
        true => after.clone(),
        false => examples_of(name, examples) + &after,
    };
    render(command, name, &own, &see, &mut page)?;
    let page = without_double_breaks(&String::from_utf8_lossy(&page));
    let mut all = vec![(format!("{name}.1"), page)];
    let mut others = vec![name.to_owned()];
    others.extend(names.iter().cloned());
    for (subcommand, name) in subcommands.into_iter().zip(&names) {
        all.extend(pages(subcommand, name, &after, &others)?);
    }
    Ok(all)
}

/// Those of the examples that call this command, each with the lines that continue it.
fn examples_of(name: &str, examples: &str) -> String {
    let call = format!("  {} ", name.replace('-', " "));
    let call = call.replace("job abort", "job-abort");
    let mut text = String::from("Examples:\n");
    let mut wanted = false;
    for line in examples.lines().take_while(|line| !line.is_empty()) {
        wanted = line.starts_with(&call) || wanted && line.starts_with("    ");
        if wanted {
            text.push_str(line);
            text.push('\n');
        }
    }
    if text.lines().count() > 1 { text + "\n" } else { String::new() }
}

/// A page without line breaks next to vertical space, which says it already.
fn without_double_breaks(page: &str) -> String {
    let lines: Vec<&str> = page.lines().collect();
    let is_space = |at: Option<usize>| {
        at.and_then(|at| lines.get(at))
            .is_some_and(|line| line.is_empty() || line.starts_with(".S"))
    };
    let kept = lines.iter().enumerate().filter(|(at, line)| {
        **line != ".br" || !(is_space(at.checked_sub(1)) || is_space(Some(at + 1)))
    });
    kept.map(|(_, line)| format!("{line}\n")).collect()
}

fn render(
    command: &clap::Command,
    name: &str,
    after: &str,
    see: &[String],
    page: &mut Vec<u8>,
) -> io::Result<()> {
    let version = concat!("domstat ", env!("CARGO_PKG_VERSION"));
    let own = command.clone().display_name(name).version(None::<&str>);
    let man = Man::new(own)
        .title(name.to_uppercase())
        .date(DATE)
        .source(version)
        .manual("domstat manual");
    man.render_title(page)?;
    // No hyphens of roff's in names: DOM-STAT_DIR is none.
    writeln!(page, ".nh")?;
    man.render_name_section(page)?;
    writeln!(page, ".SH SYNOPSIS")?;
    let usage = command.clone().render_usage().to_string();
    let usage: Vec<_> =
        usage.trim_start_matches("Usage:").lines().map(|line| escaped(line.trim())).collect();
    writeln!(page, "{}", usage.join("\n.br\n"))?;
    man.render_description_section(page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(page)?;
    }
    if command.get_subcommands().next().is_some() {
        man.render_subcommands_section(page)?;
    }
    after_help(after, page)?;
    list("ENVIRONMENT", ENVIRONMENT, page)?;
    list("FILES", FILES, page)?;
    list("EXIT STATUS", EXIT_STATUS, page)?;
    let see: Vec<_> = see.iter().map(|name| format!("{}(1)", escaped(name))).collect();
    writeln!(page, ".SH SEE ALSO\n{}", see.join(",\n"))
}

/// What stands after the options: examples, then notes. Indented lines keep their columns.
fn after_help(text: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let mut section = "";
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            let goes_on = |next: &&str| next.starts_with(' ') || section == "NOTES";
            if !section.is_empty() && lines.peek().is_some_and(goes_on) {
                writeln!(page, ".PP")?;
            }
            continue;
        }
        let is_title = matches!(line, "Example:" | "Examples:");
        let wanted = if is_title {
            "EXAMPLES"
        } else if line.starts_with(' ') && !section.is_empty() {
            section
        } else {
            "NOTES"
        };
        if wanted != section {
            writeln!(page, ".SH {wanted}")?;
            section = wanted;
        }
        if is_title {
            continue;
        }
        if line.starts_with(' ') {
            writeln!(page, ".EX\n{}", escaped(line))?;
            while let Some(line) = lines.next_if(|line| line.starts_with(' ')) {
                writeln!(page, "{}", escaped(line))?;
            }
            writeln!(page, ".EE")?;
        } else {
            writeln!(page, "{}", escaped(line))?;
        }
    }
    Ok(())
}

fn list(title: &str, items: &[(&str, &str)], page: &mut Vec<u8>) -> io::Result<()> {
    writeln!(page, ".SH {title}")?;
    for (name, text) in items {
        writeln!(page, ".TP\n\\fB{}\\fR\n{}", escaped(name), escaped(text))?;
    }
    Ok(())
}

/// Text that roff prints as it is.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_page_has_every_section_and_fits_80_columns() {
        let mut command = crate::Cli::command().disable_help_subcommand(true);
        command.build();
        let pages = pages(&command, "domstat", "", &[]).unwrap();
        assert!(pages.len() > 20, "{}", pages.len());
        for (name, page) in pages {
            for section in ["EXAMPLES", "ENVIRONMENT", "FILES", "EXIT STATUS", "SEE ALSO"] {
                assert!(page.contains(&format!(".SH {section}\n")), "{name} lacks {section}");
            }
            assert!(page.contains("\n.nh\n"), "{name} has hyphens in names");
            // Lines that are not filled, after an indentation of 7.
            let kept = page.split(".EX\n").skip(1).filter_map(|text| text.split(".EE\n").next());
            for line in kept.flat_map(str::lines) {
                let shown = line.replace("\\e", "\\").replace("\\-", "-").replace("\\(aq", "'");
                assert!(shown.len() <= 73, "{name}: {shown}");
            }
        }
    }
    /// Lines that are not indented are paragraphs: the terminal's width breaks them.
    #[test]
    fn no_paragraph_has_line_breaks_of_its_own() {
        fn check(command: &clap::Command, checked: &mut usize) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<_> = after.lines().collect();
            let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
            for pair in lines.windows(2) {
                let broken = is_prose(pair[0]) && is_prose(pair[1]);
                assert!(!broken, "{}: {pair:?}", command.get_name());
                *checked += 1;
            }
            for subcommand in command.get_subcommands() {
                check(subcommand, checked);
            }
        }
        let mut checked = 0;
        check(&crate::Cli::command(), &mut checked);
        assert!(checked > 100, "{checked} lines");
    }
}
