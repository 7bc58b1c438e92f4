//! Checks of a reader: every vector, and a region that is written while it is read.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use domstat_layout::latest::Runstate;
use domstat_layout::{Ns, Word};
use domstat_producer::{RegionBuilder, VcpuWriter};

use super::answers::{Claims, differences, expected, given};
use super::puppet::{Puppet, Silence};
use super::report::{Check, Report};
use super::vectors::Vector;

/// How long a reader is looked at next to a writer: thousands of updates, also on one CPU.
const WATCHED: Duration = Duration::from_secs(3);
/// Answers that are waited for in vain before a reader is given up: its other faults are not worth the time.
const MAX_TIMEOUTS: u32 = 3;
/// Reads that a reader is asked for at once.
const READS: u32 = 500;
/// Where the vcpu array of the region that is written starts: four words of the runstate lie before a
/// multiple of 64 KiB, up to which Linux maps pages at one fault, and the others after it. In a new mapping
/// the copy of the group is interrupted by a fault there, which is as long as an update.
const SPLIT: u32 = (64 << 10) - 64;

/// Drives the reader.
pub(super) fn drive(command: &[OsString], vectors: &[Vector]) -> io::Result<Report> {
    let dir = tempfile::tempdir()?;
    let mut reader = Reader::start(command)?;
    let mut report = Report::default();
    for vector in vectors {
        let path = dir.path().join("region");
        std::fs::write(&path, &vector.bytes)?;
        report.checks.extend(reader.check(vector, &path)?);
        std::fs::remove_file(&path)?;
    }
    report.checks.push(reader.next_to_a_writer(&dir.path().join("live"))?);
    Ok(report)
}

/// The reader, started again when it ended or hangs.
struct Reader<'a> {
    command: &'a [OsString],
    puppet: Puppet,
    claims: Claims,
    timeouts: u32,
}

impl<'a> Reader<'a> {
    fn start(command: &'a [OsString]) -> io::Result<Self> {
        let (puppet, claims) = hello(command)?;
        Ok(Self { command, puppet, claims, timeouts: 0 })
    }

    fn ask(&mut self, request: &str) -> io::Result<Result<Vec<String>, Silence>> {
        if self.timeouts == MAX_TIMEOUTS {
            return Ok(Err(Silence::GivenUp));
        }
        let answer = self.puppet.ask(request);
        if answer == Err(Silence::TimedOut) {
            self.timeouts += 1;
        }
        if answer.is_err() {
            self.puppet = hello(self.command)?.0;
        }
        Ok(answer)
    }

    /// A vector's check, and one that is skipped for the clauses that the reader does not claim.
    fn check(&mut self, vector: &Vector, path: &Path) -> io::Result<Vec<Check>> {
        let whole = vector.verdict != "skip" || self.claims.beyond;
        let claims = |clause: &String| whole && self.claims.has_clause(clause);
        let (claimed, others): (Vec<String>, Vec<String>) =
            vector.clauses.iter().cloned().partition(claims);
        let name = || vector.path.clone();
        let mut checks = Vec::new();
        if !others.is_empty() {
            let (faults, skipped) = (Vec::new(), Some("the reader does not claim it"));
            checks.push(Check { name: name(), clauses: others, faults, skipped });
        }
        if !claimed.is_empty() {
            let faults = match self.ask(&format!("read {}", path.display()))? {
                Err(silence) => vec![silence.text().to_owned()],
                Ok(lines) => self.faults(vector, &lines),
            };
            checks.push(Check { name: name(), clauses: claimed, faults, skipped: None });
        }
        Ok(checks)
    }

    fn faults(&self, vector: &Vector, lines: &[String]) -> Vec<String> {
        let refused = lines.first().and_then(|line| line.strip_prefix("refuse"));
        match (vector.verdict.as_str(), refused) {
            ("refuse", Some(_)) => Vec::new(),
            ("refuse", None) => vec!["the region was read and must be refused".to_owned()],
            (_, Some(why)) => vec![format!("the region was refused:{why}")],
            (_, None) => differences(&expected(&vector.answers, &self.claims), &given(lines)),
        }
    }

    /// Reads of a group without a twin, each in a new mapping, while its writer writes: each is of one
    /// update.
    fn next_to_a_writer(&mut self, path: &Path) -> io::Result<Check> {
        let builder = RegionBuilder::new("conform").revision(1).vcpus(1).vcpu_offs(SPLIT);
        let mut created = builder.create_file(path).map_err(io::Error::other)?;
        if let Some(vcpu) = created.vcpus.first_mut() {
            vcpu.write(&sample(0), Ns(0));
        }
        let region = created.unpublished.publish().map_err(io::Error::other)?;
        let stop = AtomicBool::new(false);
        let (mut whole, mut faults) = (0, Vec::new());
        let request = format!("repeat {READS} {} vcpu 0 runstate", path.display());
        std::thread::scope(|scope| {
            scope.spawn(|| write_until(&stop, &mut created.vcpus));
            let watched = Instant::now();
            let mut result = Ok(());
            while watched.elapsed() < WATCHED && faults.is_empty() && result.is_ok() {
                match self.ask(&request) {
                    Ok(Ok(lines)) => {
                        faults.extend(lines.iter().find_map(|line| torn(line)));
                        whole += lines.iter().filter(|line| line.starts_with("values")).count();
                    }
                    Ok(Err(silence)) => faults.push(silence.text().to_owned()),
                    Err(error) => result = Err(error),
                }
            }
            stop.store(true, Ordering::Relaxed);
            result
        })?;
        region.retire();
        if whole == 0 && faults.is_empty() {
            faults.push("not one of all reads gave values".to_owned());
        }
        let clauses = ["RD-8", "RD-12"].map(str::to_owned).to_vec();
        Ok(Check { name: "reads next to a writer".to_owned(), clauses, faults, skipped: None })
    }
}

fn hello(command: &[OsString]) -> io::Result<(Puppet, Claims)> {
    let mut puppet = Puppet::start(command)?;
    let lines = puppet.ask("hello 1").map_err(|silence| io::Error::other(silence.text()))?;
    let claims = lines.first().and_then(|line| Claims::parse(line));
    let claims = claims.ok_or_else(|| {
        io::Error::other(
            "its answer to `hello 1` is not `reader 1 REVISION [beyond] [sums] [schema]`",
        )
    })?;
    Ok((puppet, claims))
}

/// A runstate all of whose fields are `n`, so that words of two updates are seen.
fn sample(n: u64) -> Runstate {
    let word = Word::from(n);
    Runstate {
        state: word,
        state_entry_ns: word,
        running_ns: word,
        runnable_ns: word,
        blocked_ns: word,
        offline_ns: word,
    }
}

/// Writes with short pauses, so that a reader finds the group whole more often than not.
fn write_until(stop: &AtomicBool, vcpus: &mut [VcpuWriter]) {
    let Some(vcpu) = vcpus.first_mut() else { return };
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        vcpu.write(&sample(n), Ns(n));
        for _ in 0..16 {
            std::hint::spin_loop();
        }
    }
}

/// What is wrong with a line of `repeat`: values of two updates, or none of the three answers.
fn torn(line: &str) -> Option<String> {
    let values = match line.strip_prefix("values ") {
        Some(values) => values,
        None if line == "stalled" => return None,
        None => return Some(format!("not an answer: {line}")),
    };
    let mut words = values.split(' ');
    let first = words.next()?;
    let same = first.parse::<u64>().is_ok() && values.split(' ').count() == 7;
    (!same || words.any(|word| word != first)).then(|| format!("values of two updates: {values}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_two_updates_are_found() {
        assert_eq!(torn("values 7 7 7 7 7 7 7"), None);
        assert_eq!(torn("stalled"), None);
        for wrong in ["values 7 7 7 8 7 7 7", "values 7", "inactive", "", "values a a a a a a a"] {
            assert!(torn(wrong).is_some(), "{wrong}");
        }
    }
}
