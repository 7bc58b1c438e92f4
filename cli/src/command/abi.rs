//! `domstat abi`: comparison, display and check of layouts.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};
use domstat_abi::{
    Abi, Comparison, Compiler, MatrixError, MatrixReport, Shape, StructError, StructRules, ascii,
    c_header, check_c_matrix, compare, compare_structs, parse_c_header, read_struct, svg,
};
use domstat_layout::{REVISIONS, Revision, latest};

use crate::error::Failure;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  domstat abi diff include/domstat/r4.h include/domstat/r5.h
  domstat abi diff --struct shared_stats old/stats.h new/stats.h
                                             a struct of another project
  domstat abi show --rev 2                   the layout table and a map
  domstat abi show --json > layout.json      saved for a later diff
  domstat abi check --cc clang

Exit codes: 0 compatible, or all checks pass; 1 incompatible, or a check fails; 3 a file cannot \
be read or is not a layout; 4 any other error.";

/// Compare, show and check layouts
#[derive(ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Report whether two layouts are compatible, and what breaks
    Diff(DiffArgs),
    /// Print a revision's layout table and a map of a region
    Show(ShowArgs),
    /// Compile every revision's header and run a program of each against a program of each other
    Check(CheckArgs),
}

const DIFF_EXAMPLES: &str = "\
Examples:
  domstat abi diff r4.h r5.h
  domstat abi diff layout.json r5.h      the output of abi show --json
  domstat abi diff --struct ring v1/ring.h v2/ring.h
  domstat abi diff --struct ring --struct slot --may-grow v1.h v2.h
  domstat abi diff --struct ring --cc clang --cflag=-m32 v1.h v2.h

Headers of domstat are compared whole: records, groups, fields, header words, magic numbers and \
every other constant. A header that contradicts itself is refused.

With --struct, the files can be any C that compiles. The C compiler lays the structs out, so \
packing, alignment, bit-fields, unions and nested structs count as they do in a build. A member \
that moves, changes its length or type, or disappears breaks builds. A new member breaks them \
unless it lies in bytes that a member named reserved, pad or unused had, or behind the old end \
with --may-grow.

Exit codes: 0 compatible, 1 incompatible, 3 a file cannot be read or is not a layout, 4 any \
other error.";

#[derive(ClapArgs)]
#[command(after_help = DIFF_EXAMPLES)]
struct DiffArgs {
    /// The older layout: a C header or the JSON of `abi show --json`
    old: PathBuf,
    /// The newer one
    new: PathBuf,
    /// Compare this struct (or typedef) of two C files of any project; may be repeated
    #[arg(long = "struct", value_name = "NAME")]
    structs: Vec<String>,
    /// The structs may grow at their end: readers take the size from the data, not from sizeof
    #[arg(long, requires = "structs")]
    may_grow: bool,
    /// The C compiler that lays the structs out
    #[arg(long, env = "CC", default_value = "cc", requires = "structs")]
    cc: String,
    /// An option for the C compiler, as --cflag=-Iinclude; may be repeated
    #[arg(long = "cflag", value_name = "OPTION", allow_hyphen_values = true, requires = "structs")]
    cflags: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(ClapArgs)]
struct ShowArgs {
    /// The revision
    #[arg(long, value_name = "N", default_value_t = latest::REVISION)]
    rev: u32,
    /// Print the layout as JSON
    #[arg(long, conflicts_with_all = ["svg", "header"])]
    json: bool,
    /// Draw the map as SVG
    #[arg(long, conflicts_with = "header")]
    svg: bool,
    /// Print the C header
    #[arg(long)]
    header: bool,
    /// vCPUs of the region on the map
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=256))]
    vcpus: u16,
    /// Alignment of records on the map
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = align)]
    align: usize,
}

#[derive(ClapArgs)]
struct CheckArgs {
    /// The C compiler
    #[arg(long, env = "CC", default_value = "cc")]
    cc: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A power of two from 8 to 2 MiB.
fn align(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if n.is_power_of_two() && (8..=2 << 20).contains(&n) => Ok(n),
        _ => Err("expected a power of two from 8 to 2097152".to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.verb {
        Verb::Diff(args) => diff(args),
        Verb::Show(args) => show(args),
        Verb::Check(args) => check(args),
    }
}

/// A layout from a C header or from JSON.
fn read(path: &Path) -> Result<Abi, Failure> {
    let failed = |why: String| Failure::Layout { path: path.display().to_string(), why };
    let text = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text).map_err(|e| failed(e.to_string()));
    }
    parse_c_header(&text).map_err(|e| failed(e.to_string()))
}

fn diff(args: &DiffArgs) -> Result<ExitCode, Failure> {
    let found = match args.structs.as_slice() {
        [] => compare(&read(&args.old)?, &read(&args.new)?),
        names => diff_structs(args, names)?,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        let json = serde_json::json!({
            "compatible": found.is_compatible(),
            "changes": found.changes,
        });
        writeln!(out, "{json:#}")?;
    } else {
        write!(out, "{}", output::printable_lines(&found.to_string()))?;
    }
    Ok(if found.is_compatible() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn diff_structs(args: &DiffArgs, names: &[String]) -> Result<Comparison, Failure> {
    let dir = tempfile::tempdir()
        .map_err(|source| Failure::Os { action: "create a temporary directory", source })?;
    let compiler = Compiler { cc: args.cc.clone(), flags: args.cflags.clone() };
    let rules = StructRules { may_grow: args.may_grow };
    let read = |path: &Path, name: &str| {
        read_struct(path, name, &compiler, dir.path()).map_err(|error| match error {
            StructError::Os { action, source } => Failure::Check { action, source },
            other => Failure::Layout { path: path.display().to_string(), why: other.to_string() },
        })
    };
    let mut found = Comparison::default();
    for name in names {
        let (old, new) = (read(&args.old, name)?, read(&args.new, name)?);
        found.changes.extend(compare_structs(&old, &new, rules).changes);
    }
    Ok(found)
}

fn show(args: &ShowArgs) -> Result<ExitCode, Failure> {
    let unknown = || Failure::Layout {
        path: format!("revision {}", args.rev),
        why: format!("1 to {} are known", latest::REVISION),
    };
    let revision = Revision::of(args.rev).ok_or_else(unknown)?;
    let abi = Abi::of_revision(args.rev).ok_or_else(unknown)?;
    let shape = Shape { align: args.align, nr_vcpus: args.vcpus.into(), nr_devices: 1 };
    let mut out = std::io::stdout().lock();
    if args.json {
        let json = serde_json::to_string_pretty(&abi).map_err(std::io::Error::from)?;
        writeln!(out, "{json}")?;
    } else if args.svg {
        write!(out, "{}", svg(&abi, shape))?;
    } else if args.header {
        write!(out, "{}", c_header(revision))?;
    } else {
        let mut table =
            output::table(&["FIELD", "OFFSET", "BYTES", "BIT", "SINCE", "KIND", "UNIT"]);
        for record in &abi.records {
            for group in &record.groups {
                for field in &group.fields {
                    table.add_row([
                        format!("{}.{}.{}", record.name, group.name, field.name),
                        field.offset.to_string(),
                        field.width.to_string(),
                        group.bit.to_string(),
                        group.since.to_string(),
                        field.kind.clone(),
                        field.unit.clone(),
                    ]);
                }
            }
        }
        writeln!(out, "{table}\n\n{}", ascii(&abi, shape).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let known: Vec<Abi> = REVISIONS.iter().filter_map(|r| Abi::of_revision(r.number)).collect();
    let report = match incompatible(&known) {
        Some(fault) => Err(fault),
        None => {
            let dir = tempfile::tempdir()
                .map_err(|source| Failure::Os { action: "create a temporary directory", source })?;
            match check_c_matrix(&args.cc, dir.path()) {
                Err(MatrixError::Os { action, source }) => {
                    return Err(Failure::Check { action, source });
                }
                other => other.map_err(|fault| fault.to_string()),
            }
        }
    };
    let mut out = std::io::stdout().lock();
    let revisions = known.len();
    match (&report, args.json) {
        (Ok(MatrixReport { headers, pairs, fields }), false) => {
            writeln!(out, "{revisions} revisions, each only appends to the one before")?;
            let cc = &args.cc;
            writeln!(out, "{headers} headers compile as C99 with {cc}, and their checks hold")?;
            writeln!(
                out,
                "{pairs} pairs of builds agree, over all placements and alignments: \
                 {fields} fields compared"
            )?;
        }
        (Err(fault), false) => writeln!(out, "{fault}")?,
        (report, true) => {
            let numbers = report.as_ref().ok();
            let json = serde_json::json!({
                "pass": numbers.is_some(),
                "fault": report.as_ref().err(),
                "revisions": revisions,
                "headers": numbers.map(|r| r.headers),
                "pairs": numbers.map(|r| r.pairs),
                "fields": numbers.map(|r| r.fields),
            });
            writeln!(out, "{json:#}")?;
        }
    }
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The first pair of revisions of which the later does more than append.
fn incompatible(known: &[Abi]) -> Option<String> {
    let pairs = known.iter().enumerate();
    let pairs = pairs.flat_map(|(i, old)| known.iter().skip(i + 1).map(move |new| (old, new)));
    pairs.map(|(old, new)| (old, new, compare(old, new))).find_map(|(old, new, found)| {
        let text = || format!("revision {} to {}:\n{found}", old.revision, new.revision);
        (!found.is_compatible()).then(text)
    })
}
