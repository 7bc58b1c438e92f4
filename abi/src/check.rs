//! The headers of every revision on a C compiler: do they compile, do their checks hold, and do
//! programs compiled with one understand programs compiled with another?

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use domstat_layout::REVISIONS;

use crate::c_header;

/// The C programs, and what they include.
const SOURCES: [(&str, &str); 5] = [
    ("peer.h", include_str!("../c/peer.h")),
    ("read.h", include_str!("../../layout/include/domstat/read.h")),
    ("fields.h", include_str!("../c/fields.h")),
    ("producer.c", include_str!("../c/producer.c")),
    ("consumer.c", include_str!("../c/consumer.c")),
];
const PLACEMENTS: [&str; 2] = ["packed", "pages"];
const ALIGNMENTS: [&str; 4] = ["64", "128", "512", "4096"];
const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// What was found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Headers that compiled as C99, every check in them holding.
    pub headers: usize,
    /// Pairs of producer and consumer, each at every placement and alignment, that understood each
    /// other.
    pub pairs: usize,
    /// Fields that were compared.
    pub fields: usize,
}

/// Why the check ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The compiler or a program could not be run.
    #[error("cannot {action}: {source}")]
    Os {
        /// What was tried.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// A header does not compile, or a check in it does not hold.
    #[error("{what} does not compile:\n{output}")]
    Compile {
        /// Which file, of which revision.
        what: String,
        /// What the compiler said.
        output: String,
    },
    /// A consumer misread a producer.
    #[error(
        "revision {reader} reads a region of revision {writer} ({shape}) otherwise: {line}, expected {expected}"
    )]
    Misread {
        /// The consumer's revision.
        reader: u32,
        /// The producer's.
        writer: u32,
        /// Placement and alignment.
        shape: String,
        /// What it said.
        line: String,
        /// What would have been right.
        expected: String,
    },
    /// A consumer could not read a producer.
    #[error("revision {reader} does not read a region of revision {writer} ({shape}): {why}")]
    Unread {
        /// The consumer's revision.
        reader: u32,
        /// The producer's.
        writer: u32,
        /// Placement and alignment.
        shape: String,
        /// What it said, or how it ended.
        why: String,
    },
}

fn os(action: impl Into<String>) -> impl FnOnce(io::Error) -> CheckError {
    let action = action.into();
    move |source| CheckError::Os { action, source }
}

/// Runs the check with the compiler `cc`, in `dir`, which is left with what was compiled.
///
/// # Errors
/// [`CheckError`] for the first thing that is wrong.
pub fn check_with(cc: &str, dir: &Path) -> Result<Checked, CheckError> {
    let write = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).map_err(os(format!("write {name}")))
    };
    for (name, text) in SOURCES {
        write(name, text)?;
    }
    let mut checked = Checked::default();
    let mut programs = Vec::new();
    for revision in REVISIONS {
        let n = revision.number;
        write(&format!("r{n}.h"), &c_header(revision))?;
        write("one.c", &format!("#include \"r{n}.h\"\nint x;\n"))?;
        compile(cc, dir, &format!("r{n}.h"), &["-std=c99", "-c", "one.c", "-o", "one.o"])?;
        checked.headers += 1;
        let header = format!("-DPEER_HEADER=\"r{n}.h\"");
        let built = |program: &str| {
            let (source, out) = (format!("{program}.c"), format!("{program}-r{n}"));
            compile(
                cc,
                dir,
                &format!("{source} with r{n}.h"),
                &["-std=gnu11", "-O2", &header, &source, "-o", &out],
            )?;
            Ok::<PathBuf, CheckError>(dir.join(out))
        };
        programs.push((n, built("producer")?, built("consumer")?));
    }
    let region = dir.join("region");
    for (placement, align) in PLACEMENTS.iter().flat_map(|p| ALIGNMENTS.map(|a| (*p, a))) {
        let shape = format!("{placement} by {align}");
        for &(writer, ref producer, ref own) in &programs {
            let _ = std::fs::remove_file(&region);
            let running = Producer::start(producer, &region, placement, align)?;
            let read = |reader, consumer| {
                let shape = shape.clone();
                lines(consumer, &region)?.map_err(|why| CheckError::Unread {
                    reader,
                    writer,
                    shape,
                    why,
                })
            };
            // What its own consumer says is what the others are held to.
            let known = read(writer, own)?;
            for &(reader, _, ref consumer) in &programs {
                for (field, found) in read(reader, consumer)? {
                    let expected = known.get(&field).map_or("not produced", String::as_str);
                    if found != expected {
                        return Err(CheckError::Misread {
                            reader,
                            writer,
                            shape,
                            line: format!("{field} {found}"),
                            expected: expected.to_owned(),
                        });
                    }
                    checked.fields += 1;
                }
                checked.pairs += 1;
            }
            drop(running);
        }
    }
    Ok(checked)
}

fn compile(cc: &str, dir: &Path, what: &str, args: &[&str]) -> Result<(), CheckError> {
    let output = Command::new(cc).args(WARNINGS).args(args).current_dir(dir).output();
    let output = output.map_err(os(format!("run the C compiler {cc}")))?;
    if output.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(CheckError::Compile { what: what.to_owned(), output })
}

/// What a consumer prints: the value of each field; or why it does not.
fn lines(
    consumer: &Path,
    region: &Path,
) -> Result<Result<BTreeMap<String, String>, String>, CheckError> {
    let output = Command::new(consumer).arg(region).output();
    let output = output.map_err(os(format!("run {}", consumer.display())))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Ok(Err(format!("{} {}", output.status, said.trim())));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |line: &str| {
        let (field, value) = line.split_once(' ')?;
        Some((field.to_owned(), value.to_owned()))
    };
    let lines: BTreeMap<_, _> = text.lines().filter_map(line).collect();
    Ok(if lines.is_empty() { Err("it prints nothing".to_owned()) } else { Ok(lines) })
}

/// A producer that lives until this is dropped.
struct Producer(Child);

impl Producer {
    fn start(
        program: &Path,
        region: &Path,
        placement: &str,
        align: &str,
    ) -> Result<Self, CheckError> {
        let action = || format!("run {}", program.display());
        let child = Command::new(program)
            .arg(region)
            .args([placement, align])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut producer = Self(child.map_err(os(action()))?);
        let mut line = String::new();
        if let Some(out) = producer.0.stdout.take() {
            BufReader::new(out).read_line(&mut line).map_err(os(action()))?;
        }
        if line == "ready\n" {
            return Ok(producer);
        }
        Err(os(action())(io::Error::other("it published nothing")))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
