//! The vectors: regions as files, with the answers that a reader must give.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// What a reader does with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It reads all of it.
    Read,
    /// It reads what the header describes, and skips the kinds of records beyond it.
    Skip,
    /// It refuses the region.
    Refuse,
}

/// A vector.
#[derive(Clone, Debug)]
pub struct Vector {
    /// Where it lies in the folder, without the ends of its two files' names.
    pub path: String,
    /// The clauses that it is for: of a bad one, those that it breaks, too.
    pub clauses: Vec<String>,
    /// The rules of the checker that a good vector breaks all the same.
    pub rules: Vec<String>,
    /// What a reader does.
    pub verdict: Verdict,
    /// The answers of a reader that knows revision 5; null if it refuses.
    pub answers: Value,
    /// The region, with the zeros at its end.
    pub bytes: Vec<u8>,
}

/// The folder in this repository.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors")
}

/// Every vector of the folder's index, in its order.
///
/// # Errors
/// What the file system says, and for files that are not vectors.
pub fn all(folder: &Path) -> io::Result<Vec<Vector>> {
    let index: Value = serde_json::from_slice(&std::fs::read(folder.join("index.json"))?)?;
    let entries = index.as_array().ok_or_else(|| wrong("index.json"))?;
    entries
        .iter()
        .map(|entry| {
            let path = entry["path"].as_str().ok_or_else(|| wrong("index.json"))?;
            read(folder, path)
        })
        .collect()
}

fn read(folder: &Path, path: &str) -> io::Result<Vector> {
    let vector: Value =
        serde_json::from_slice(&std::fs::read(folder.join(format!("{path}.json")))?)?;
    let mut bytes = std::fs::read(folder.join(format!("{path}.bin")))?;
    let length = vector["length"].as_str().and_then(|text| text.parse().ok());
    let length: usize = length.filter(|n| *n >= bytes.len()).ok_or_else(|| wrong(path))?;
    bytes.resize(length, 0);
    let verdict = match vector["verdict"].as_str() {
        Some("read") => Verdict::Read,
        Some("skip") => Verdict::Skip,
        Some("refuse") => Verdict::Refuse,
        _ => return Err(wrong(path)),
    };
    let names = |value: &Value| {
        let names = value.as_array().into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let (clauses, rules) = (names(&vector["clauses"]), names(&vector["rules"]));
    let answers = vector["answers"].clone();
    Ok(Vector { path: path.to_owned(), clauses, rules, verdict, answers, bytes })
}

fn wrong(path: &str) -> io::Error {
    io::Error::other(format!("{path} is not a vector"))
}
