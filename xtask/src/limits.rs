//! Table of the limits: every constant of the libraries and programs that bounds time, memory or work.
//!
//! These are the constants whose names begin with `MAX_` or `MOST_`, and those of type `Duration`, if
//! their documentation says what they bound and why.

use std::error::Error;
use std::process::Command;

const CRATES: [&str; 7] =
    ["layout", "producer", "consumer", "sources", "exporter", "cli", "invariant-checker"];

/// Files with constants of tests and examples.
const EXCLUDED: [&str; 5] = ["/tests", "/fixtures", "/conformance", "/frozen", "command/demo.rs"];

/// A page with the table between its marks.
pub(crate) fn page(page: &str) -> Result<String, Box<dyn Error>> {
    const BEGIN: &str = "<!-- Limits, written by xtask: ci/generated.sh --fix -->\n";
    const END: &str = "<!-- End of the limits -->";
    let (before, rest) = page.split_once(BEGIN).ok_or("no mark where the limits begin")?;
    let (_, after) = rest.split_once(END).ok_or("no mark where the limits end")?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", table()?))
}

fn table() -> Result<String, Box<dyn Error>> {
    let mut table = String::from("| limit | value | what it bounds |\n|---|---|---|\n");
    let listed = Command::new("git").arg("ls-files").args(CRATES).output()?;
    for file in String::from_utf8(listed.stdout)?.lines() {
        let source = file.ends_with(".rs") && file.contains("/src/");
        if source && !EXCLUDED.iter().any(|part| file.contains(part)) {
            for limit in limits(&std::fs::read_to_string(file)?) {
                let Limit { name, value, doc } = limit;
                table += &format!("| `{name}` in `{file}` | {value} | {doc} |\n");
            }
        }
    }
    Ok(table)
}

struct Limit {
    name: String,
    value: String,
    doc: String,
}

/// The limits among the constants of a file.
fn limits(text: &str) -> Vec<Limit> {
    let mut found = Vec::new();
    let mut doc = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("///") {
            doc.push_str(comment);
        } else if !line.starts_with("#[") {
            let doc = std::mem::take(&mut doc);
            let limit = constant(line).filter(is_limit).filter(|_| !doc.is_empty());
            found.extend(limit.map(|(name, _, value)| Limit {
                name: name.to_owned(),
                value: readable(value),
                doc: doc.trim().replace(['[', ']'], "").replace('|', "\\|"),
            }));
        }
    }
    found
}

/// Name, type and value of a constant that stands on one line.
fn constant(line: &str) -> Option<(&str, &str, &str)> {
    let (visibility, rest) = line.split_once("const ")?;
    (visibility.is_empty() || visibility.starts_with("pub")).then_some(())?;
    let (name, rest) = rest.split_once(": ")?;
    let (kind, value) = rest.strip_suffix(';')?.split_once(" = ")?;
    Some((name, kind, value))
}

fn is_limit((name, kind, _): &(&str, &str, &str)) -> bool {
    let number = ["u32", "u64", "usize"].contains(kind);
    let time = *kind == "Duration" && !name.starts_with("DEFAULT_");
    time || number && (name.starts_with("MAX_") || name.starts_with("MOST_"))
}

/// A duration with its unit, anything else as it stands.
fn readable(value: &str) -> String {
    for (constructor, unit) in [("millis", "ms"), ("secs", "s"), ("micros", "µs")] {
        let number = value.strip_prefix(&format!("Duration::from_{constructor}("));
        if let Some(number) = number.and_then(|rest| rest.strip_suffix(')')) {
            return format!("{number} {unit}");
        }
    }
    format!("`{value}`")
}

#[cfg(test)]
mod tests {
    use super::limits;

    #[test]
    fn limits_are_found_with_value_and_reason() {
        let text = "\
            /// How long one peer\n/// may take.\n#[allow(dead_code)]\n\
            const ANSWER: Duration = Duration::from_secs(2);\n\
            /// Most [`Peer`]s.\npub(crate) const MAX_PEERS: usize = 1 << 6;\n\
            /// No limit.\nconst OFFSET: usize = 4;\n";
        let found: Vec<_> = limits(text)
            .into_iter()
            .map(|l| format!("{}={}: {}", l.name, l.value, l.doc))
            .collect();
        assert_eq!(
            found,
            ["ANSWER=2 s: How long one peer may take.", "MAX_PEERS=`1 << 6`: Most `Peer`s."]
        );
    }
}
