//! `domstat man`: manual pages.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
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
];

pub(crate) fn run(args: &Args, command: clap::Command) -> Result<ExitCode, Failure> {
    let os = |action| move |source| Failure::Os { action, source };
    std::fs::create_dir_all(&args.out).map_err(os("create the directory"))?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_pages(&command, "domstat", &[], &args.out).map_err(os("write manual pages"))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the page of a command, and those of its subcommands.
fn write_pages(
    command: &clap::Command,
    name: &str,
    others: &[String],
    out: &Path,
) -> io::Result<()> {
    let subcommands: Vec<_> = command.get_subcommands().filter(|c| !c.is_hide_set()).collect();
    let names: Vec<_> = subcommands.iter().map(|c| format!("{name}-{}", c.get_name())).collect();
    let mut see = names.clone();
    see.extend(others.iter().filter(|other| *other != name).cloned());
    let mut page = Vec::new();
    render(command, name, &see, &mut page)?;
    std::fs::write(out.join(format!("{name}.1")), page)?;
    let mut others = vec![name.to_owned()];
    others.extend(names.iter().cloned());
    for (subcommand, name) in subcommands.into_iter().zip(&names) {
        write_pages(subcommand, name, &others, out)?;
    }
    Ok(())
}

fn render(
    command: &clap::Command,
    name: &str,
    see: &[String],
    page: &mut Vec<u8>,
) -> io::Result<()> {
    let version = concat!("domstat ", env!("CARGO_PKG_VERSION"));
    let own = command.clone().display_name(name).version(None::<&str>);
    let man = Man::new(own).title(name.to_uppercase()).source(version).manual("domstat manual");
    man.render_title(page)?;
    man.render_name_section(page)?;
    writeln!(page, ".SH SYNOPSIS")?;
    let usage = command.clone().render_usage().to_string();
    for line in usage.trim_start_matches("Usage:").lines() {
        writeln!(page, "{}\n.br", escaped(line.trim()))?;
    }
    man.render_description_section(page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(page)?;
    }
    if command.get_subcommands().next().is_some() {
        man.render_subcommands_section(page)?;
    }
    let after = command.get_after_long_help().or(command.get_after_help());
    after_help(&after.map(ToString::to_string).unwrap_or_default(), page)?;
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
            if !section.is_empty() && lines.peek().is_some() {
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
