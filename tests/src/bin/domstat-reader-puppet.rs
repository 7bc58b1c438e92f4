//! The Rust reader as `domstat conform reader` drives it: requests on standard input, answers on standard
//! output. The protocol stands in docs/spec.md.

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Duration;

use domstat_consumer::{AttachError, Patience, ReadError, Reading, Region};
use domstat_layout::latest::Runstate;
use domstat_tests::answers::answers;
use serde_json::Value;
use zerocopy::IntoBytes;

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["hello", "1"] => writeln!(out, "reader 1 5 beyond sums schema")?,
            ["read", path] => read(&mut out, path)?,
            ["repeat", count, path, "vcpu", "0", "runstate"] => {
                for _ in 0..count.parse::<u32>()? {
                    writeln!(out, "{}", runstate(path)?)?;
                }
            }
            _ => return Err(format!("unknown request: {line}").into()),
        }
        writeln!(out, "end")?;
        out.flush()?;
    }
    Ok(())
}

fn open(path: &str) -> Result<Region, AttachError> {
    let patience = Patience { spins: 64, yielding: Duration::from_micros(100) };
    Ok(Region::open(path)?.with_patience(patience))
}

/// One read in a new mapping.
fn runstate(path: &str) -> Result<String, Box<dyn Error>> {
    let region = open(path)?;
    let vcpu = region.vcpu(0).ok_or("no vCPU")?;
    Ok(match vcpu.read::<Runstate>() {
        Ok(Reading::Active(sample)) => {
            let (words, _) = sample.group.as_bytes().as_chunks::<8>();
            let words = words.iter().map(|word| u64::from_le_bytes(*word));
            let words = std::iter::once(sample.updated.0).chain(words);
            words.fold("values".to_owned(), |line, word| format!("{line} {word}"))
        }
        Ok(Reading::Inactive | Reading::Unknown) => "inactive".to_owned(),
        Err(ReadError::Stalled(_)) => "stalled".to_owned(),
        Err(error) => return Err(error.into()),
    })
}

fn read(out: &mut impl Write, path: &str) -> std::io::Result<()> {
    let region = match open(path) {
        Ok(region) => region,
        Err(error) => return writeln!(out, "refuse {error}"),
    };
    let answers = answers(&region);
    let of = &answers["region"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let [state, clock, incarnation] = ["state", "clock", "incarnation"].map(|key| text(&of[key]));
    writeln!(out, "region {state} {clock} {incarnation}")?;
    for (prefix, part) in [("", "records"), ("sum:", "devices")] {
        for (kind, records) in answers[part].as_object().into_iter().flatten() {
            for (index, record) in records.as_array().into_iter().flatten().enumerate() {
                for (group, value) in record.as_object().into_iter().flatten() {
                    if group == "generation" {
                        writeln!(out, "generation {kind} {index} {}", text(value))?;
                    } else {
                        print(out, &format!("{prefix}{kind} {index} {group}"), value)?;
                    }
                }
            }
        }
    }
    for entry in answers["described"].as_array().into_iter().flatten() {
        let [kind, index, group] = ["kind", "index", "group"].map(|key| text(&entry[key]));
        let at = format!("described:{kind} {index} {group}");
        match &entry["fields"] {
            Value::Array(fields) => {
                for field in fields {
                    writeln!(
                        out,
                        "field {at} {} {}",
                        text(&field["field"]),
                        token(&field["words"])
                    )?;
                }
            }
            other => print(out, &at, other)?,
        }
    }
    Ok(())
}

/// A group, field by field.
fn print(out: &mut impl Write, at: &str, value: &Value) -> std::io::Result<()> {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                writeln!(out, "field {at} {field} {}", token(value))?;
            }
            Ok(())
        }
        other if other == "stalled" => writeln!(out, "group {at} stalled"),
        _ => writeln!(out, "group {at} inactive"),
    }
}

/// An answer as one word.
fn token(value: &Value) -> String {
    match value {
        Value::Array(words) => words.iter().map(token).collect::<Vec<_>>().join(","),
        Value::Object(_) => match (value["text"].as_str(), value["bytes"].as_str()) {
            (Some(text), _) => {
                let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
                format!("text:{hex}")
            }
            (None, bytes) => format!("bytes:{}", bytes.unwrap_or_default()),
        },
        _ => value.as_str().unwrap_or_default().replace(' ', "-"),
    }
}
