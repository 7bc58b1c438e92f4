//! Matrix of C programs: every revision's header is compiled, and a consumer of each reads a producer
//! of each other, at every placement and alignment.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use domstat_layout::REVISIONS;

use crate::c_header;

/// The C programs and the files that they include.
const SOURCES: [(&str, &str); 9] = [
    ("peer.h", include_str!("../c/peer.h")),
    ("read.h", include_str!("../../layout/include/domstat/read.h")),
    ("region.h", include_str!("../../layout/include/domstat/region.h")),
    ("write.h", include_str!("../../layout/include/domstat/write.h")),
    ("groups.h", include_str!("../../layout/include/domstat/groups.h")),
    ("plan.h", include_str!("../../layout/include/domstat/plan.h")),
    ("fields.h", include_str!("../c/fields.h")),
    ("producer.c", include_str!("../c/producer.c")),
    ("consumer.c", include_str!("../c/consumer.c")),
];
const PLACEMENTS: [&str; 2] = ["packed", "pages"];
const ALIGNMENTS: [&str; 4] = ["64", "128", "512", "4096"];
const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// Size of the matrix that was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MatrixReport {
    /// Headers that compile as C99 and whose checks hold.
    pub headers: usize,
    /// Pairs of producer and consumer, at every placement and alignment.
    pub pairs: usize,
    /// Fields compared.
    pub fields: usize,
}

/// Reason why the check ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// The compiler or a program could not be run.
    #[error("cannot {action}: {source}")]
    Os {
        /// The action that failed.
        action: String,
        /// The system's error.
        source: io::Error,
    },
    /// A header does not compile, or a check in it does not hold.
    #[error("{what} does not compile:\n{output}")]
    Compile {
        /// File and revision.
        what: String,
        /// The compiler's output.
        output: String,
    },
    /// A consumer misread a producer.
    #[error(
        "a reader of revision {reader} misreads a region of revision {writer} ({shape}): {line}, expected {expected}"
    )]
    Misread {
        /// The consumer's revision.
        reader: u32,
        /// The producer's.
        writer: u32,
        /// Placement and alignment.
        shape: String,
        /// The line that it printed.
        line: String,
        /// The right value.
        expected: String,
    },
    /// A consumer could not read a producer.
    #[error(
        "a reader of revision {reader} cannot read a region of revision {writer} ({shape}): {why}"
    )]
    Unread {
        /// The consumer's revision.
        reader: u32,
        /// The producer's.
        writer: u32,
        /// Placement and alignment.
        shape: String,
        /// Its exit status and output.
        why: String,
    },
}

fn os(action: impl Into<String>) -> impl FnOnce(io::Error) -> MatrixError {
    let action = action.into();
    move |source| MatrixError::Os { action, source }
}

/// Runs the matrix with the compiler `cc` in `dir`, where sources and programs stay.
///
/// # Errors
/// [`MatrixError`] for the first thing that is wrong.
pub fn check_c_matrix(cc: &str, dir: &Path) -> Result<MatrixReport, MatrixError> {
    let write = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).map_err(os(format!("write {name}")))
    };
    for (name, text) in SOURCES {
        write(name, text)?;
    }
    let mut checked = MatrixReport::default();
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
            Ok::<PathBuf, MatrixError>(dir.join(out))
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
                lines(consumer, &region)?.map_err(|why| MatrixError::Unread {
                    reader,
                    writer,
                    shape,
                    why,
                })
            };
            // The others must agree with the consumer of the producer's own revision.
            let known = read(writer, own)?;
            for &(reader, _, ref consumer) in &programs {
                for (field, found) in read(reader, consumer)? {
                    let expected = known.get(&field).map_or("not produced", String::as_str);
                    if found != expected {
                        return Err(MatrixError::Misread {
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

fn compile(cc: &str, dir: &Path, what: &str, args: &[&str]) -> Result<(), MatrixError> {
    let output = Command::new(cc).args(WARNINGS).args(args).current_dir(dir).output();
    let output = output.map_err(os(format!("run the C compiler {cc}")))?;
    if output.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(MatrixError::Compile { what: what.to_owned(), output })
}

/// Output of a consumer: the value of each field, or the reason why there is none.
fn lines(
    consumer: &Path,
    region: &Path,
) -> Result<Result<BTreeMap<String, String>, String>, MatrixError> {
    let output = Command::new(consumer).arg(region).output();
    let output = output.map_err(os(format!("run {}", consumer.display())))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Ok(Err(format!("{} {}", output.status, stderr.trim())));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |line: &str| {
        let (field, value) = line.split_once(' ')?;
        Some((field.to_owned(), value.to_owned()))
    };
    let lines: BTreeMap<_, _> = text.lines().filter_map(line).collect();
    Ok(if lines.is_empty() { Err("it prints no value".to_owned()) } else { Ok(lines) })
}

/// A running producer; dropping it ends the process.
struct Producer(Child);

impl Producer {
    fn start(
        program: &Path,
        region: &Path,
        placement: &str,
        align: &str,
    ) -> Result<Self, MatrixError> {
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
        Err(os(action())(io::Error::other("it did not publish a region")))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
