//! Vectors: regions as files, with the answers that a reader must give.

use std::io;
use std::path::Path;

use serde_json::Value;

/// Longest region of a vector: they have a few pages each.
const MAX_LENGTH: usize = 1 << 24;

/// A vector.
pub(super) struct Vector {
    /// Where it lies in the folder.
    pub(super) path: String,
    /// The clauses that it is for.
    pub(super) clauses: Vec<String>,
    /// `read`, `skip` or `refuse`.
    pub(super) verdict: String,
    /// The expected answers; null if it is refused.
    pub(super) answers: Value,
    /// The region.
    pub(super) bytes: Vec<u8>,
}

/// Every vector of the folder's index.
pub(super) fn all(folder: &Path) -> io::Result<Vec<Vector>> {
    let index: Value = serde_json::from_slice(&std::fs::read(folder.join("index.json"))?)?;
    let entries = index.as_array().map_or(&[][..], Vec::as_slice);
    if entries.is_empty() {
        return Err(wrong("index.json"));
    }
    entries.iter().map(|entry| read(folder, &text(entry, "path"))).collect()
}

fn read(folder: &Path, path: &str) -> io::Result<Vector> {
    let json = std::fs::read(folder.join(format!("{path}.json")))?;
    let mut bytes = std::fs::read(folder.join(format!("{path}.bin")))?;
    let vector: Value = serde_json::from_slice(&json)?;
    let length = text(&vector, "length").parse().ok();
    let length: usize = length
        .filter(|length| (bytes.len()..=MAX_LENGTH).contains(length))
        .ok_or_else(|| wrong(path))?;
    bytes.resize(length, 0);
    let clauses = vector.get("clauses").and_then(Value::as_array).into_iter().flatten();
    Ok(Vector {
        path: path.to_owned(),
        clauses: clauses.filter_map(|clause| clause.as_str().map(str::to_owned)).collect(),
        verdict: text(&vector, "verdict"),
        answers: vector.get("answers").cloned().unwrap_or(Value::Null),
        bytes,
    })
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn wrong(path: &str) -> io::Error {
    io::Error::other(format!("{path} is not a vector"))
}
