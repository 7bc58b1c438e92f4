//! Answers as lines of the kit's protocol, from a vector's JSON and from a reader.

use std::collections::BTreeMap;
use std::fmt::Write;

use domstat_layout::{RecordKind, Revision};
use serde_json::Value;

/// What a reader claims to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    /// The newest revision whose groups it knows.
    pub(super) revision: u32,
    /// Kinds of records beyond the header's.
    pub(super) beyond: bool,
    /// Sums of shares.
    pub(super) sums: bool,
    /// Groups that only the schema describes.
    pub(super) schema: bool,
}

impl Claims {
    /// The claims of a reader's first line, `reader 1 REVISION [beyond] [sums] [schema]`.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("reader 1 ")?.split(' ');
        let revision = words.next()?.parse().ok().filter(|n| Revision::of(*n).is_some())?;
        let mut claims = Self { revision, ..Self::default() };
        for word in words {
            match word {
                "beyond" => claims.beyond = true,
                "sums" => claims.sums = true,
                "schema" => claims.schema = true,
                _ => return None,
            }
        }
        Some(claims)
    }

    /// Whether a clause is about what the reader claims.
    pub(super) fn has_clause(&self, clause: &str) -> bool {
        // Clauses of the schema that its table of records is enough for.
        const OF_TABLE: [&str; 7] = ["SC-1", "SC-5", "SC-6", "SC-7", "SC-8", "SC-9", "SC-10"];
        match clause.split_once('-') {
            Some(("SH", _)) => self.sums,
            Some(("SC", _)) if OF_TABLE.contains(&clause) => self.beyond,
            Some(("SC", _)) => self.schema,
            _ => clause != "RD-19" || self.sums,
        }
    }

    /// Whether the reader knows this group of a kind of record, both by name.
    fn knows(&self, kind: &str, group: &str) -> bool {
        let kind = RecordKind::ALL.into_iter().find(|known| known.name() == kind);
        let revision = Revision::of(self.revision);
        kind.zip(revision).is_some_and(|(kind, revision)| {
            let beyond = RecordKind::OPTIONAL.contains(&kind);
            let known = revision.groups(kind).iter().any(|desc| desc.name == group);
            known && (self.beyond || !beyond)
        })
    }
}

/// Answers by what they are of.
pub(super) type Answers = BTreeMap<String, String>;

/// The answers that a reader with these claims must give.
pub(super) fn expected(answers: &Value, claims: &Claims) -> Answers {
    let mut lines = Answers::new();
    let text = |key: &str| {
        let value = answers.get("region").and_then(|region| region.get(key));
        value.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let region = format!("{} {} {}", text("state"), text("clock"), text("incarnation"));
    lines.insert("region".to_owned(), region);
    for (kind, records) in entries(answers.get("records")) {
        for (index, record) in items(records).enumerate() {
            for (group, value) in entries(Some(record)) {
                if group == "generation" {
                    if claims.knows(kind, first_group(kind)) {
                        lines.insert(format!("generation {kind} {index}"), token(value));
                    }
                } else if claims.knows(kind, group) {
                    add_group(&mut lines, &format!("{kind} {index} {group}"), value);
                }
            }
        }
    }
    for (kind, devices) in entries(answers.get("devices").filter(|_| claims.sums)) {
        for (index, device) in items(devices).enumerate() {
            for (group, value) in entries(Some(device)) {
                add_group(&mut lines, &format!("sum:{kind} {index} {group}"), value);
            }
        }
    }
    let described = answers.get("described").filter(|_| claims.schema);
    for entry in described.into_iter().flat_map(items) {
        let of = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let at = format!("described:{} {} {}", of("kind"), of("index"), of("group"));
        match entry.get("fields") {
            Some(fields @ Value::Array(_)) => {
                for field in items(fields) {
                    let name = field.get("field").and_then(Value::as_str).unwrap_or_default();
                    let words = field.get("words").map(token).unwrap_or_default();
                    lines.insert(format!("field {at} {name}"), words);
                }
            }
            other => add_group(&mut lines, &at, other.unwrap_or(&Value::Null)),
        }
    }
    lines
}

/// A group of a kind that every reader of the kind knows.
fn first_group(kind: &str) -> &'static str {
    let kind = RecordKind::ALL.into_iter().find(|known| known.name() == kind);
    let groups = kind.map_or(&[][..], |kind| domstat_layout::latest::REV.groups(kind));
    groups.first().map_or("", |desc| desc.name)
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    let map = value.and_then(Value::as_object).into_iter().flatten();
    map.map(|(key, value)| (key.as_str(), value))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn add_group(lines: &mut Answers, at: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                lines.insert(format!("field {at} {field}"), token(value));
            }
        }
        other => {
            let word = if other == "stalled" { "stalled" } else { "inactive" };
            lines.insert(format!("group {at}"), word.to_owned());
        }
    }
}

/// An answer as one word.
fn token(value: &Value) -> String {
    match value {
        Value::String(text) if text == "not produced" => "not-produced".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(words) => words.iter().map(token).collect::<Vec<_>>().join(","),
        Value::Object(_) => {
            let get = |key| value.get(key).and_then(Value::as_str);
            match (get("text"), get("bytes")) {
                (Some(text), _) => text.bytes().fold("text:".to_owned(), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                }),
                (None, bytes) => format!("bytes:{}", bytes.unwrap_or_default()),
            }
        }
        other => other.to_string(),
    }
}

/// The answers in a reader's lines: the last word is the answer, unless the line is `region`.
pub(super) fn given(lines: &[String]) -> Answers {
    let mut answers = Answers::new();
    for line in lines {
        let parts = match line.strip_prefix("region ") {
            Some(rest) => Some(("region", rest)),
            None => line.rsplit_once(' '),
        };
        let (key, answer) = parts.unwrap_or((line, ""));
        answers.insert(key.to_owned(), answer.to_owned());
    }
    answers
}

/// Where the answers of a reader differ, in words.
pub(super) fn differences(expected: &Answers, given: &Answers) -> Vec<String> {
    let mut found = Vec::new();
    for (key, answer) in expected {
        match given.get(key) {
            Some(other) if other == answer => {}
            Some(other) => found.push(format!("{key}: expected {answer}, found {other}")),
            None => found.push(format!("{key}: expected {answer}, found nothing")),
        }
    }
    let others = given.iter().filter(|(key, _)| !expected.contains_key(*key));
    found.extend(others.map(|(key, answer)| format!("{key}: expected nothing, found {answer}")));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_are_read_from_the_first_line() {
        let claims = Claims { revision: 5, beyond: true, sums: true, schema: false };
        assert_eq!(Claims::parse("reader 1 5 beyond sums"), Some(claims));
        for wrong in ["", "reader 2 5", "reader 1 9", "reader 1 5 magic", "reader 1"] {
            assert_eq!(Claims::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn answers_are_compared_as_far_as_a_reader_claims() {
        let answers = json!({
            "region": { "state": "live", "clock": "xen", "incarnation": "7" },
            "records": {
                "dom": [{ "identity": { "name": { "text": "é" }, "domid": "not produced" } }],
                "vcpu": [{ "generation": "1", "runstate": "stalled", "sched": "group not active" }],
                "vcpu_hist": [{ "wait": { "ns": ["1", "saturated"] } }],
            },
        });
        let claims = Claims { revision: 1, ..Claims::default() };
        let lines = expected(&answers, &claims);
        let said = [
            "region live xen 7",
            "field dom 0 identity domid not-produced",
            "field dom 0 identity name text:c3a9",
            "generation vcpu 0 1",
            "group vcpu 0 runstate stalled",
        ];
        let said: Vec<String> = said.into_iter().map(str::to_owned).collect();
        assert_eq!(lines, given(&said));
        let claims = Claims { revision: 5, beyond: true, ..claims };
        let missing = differences(&expected(&answers, &claims), &given(&said));
        assert_eq!(
            missing,
            [
                "field vcpu_hist 0 wait ns: expected 1,saturated, found nothing",
                "group vcpu 0 sched: expected inactive, found nothing",
            ]
        );
        assert!(!claims.has_clause("SH-1") && !claims.has_clause("SC-3"));
        assert!(claims.has_clause("SC-8") && claims.has_clause("RD-4"));
        let mut more = said;
        more[1] = "field dom 0 identity domid 0".to_owned();
        more.push("group vcpu 1 runstate inactive".to_owned());
        assert_eq!(differences(&lines, &given(&more)).len(), 2);
    }
}
