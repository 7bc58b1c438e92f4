//! Layout from the parts of a header.

use std::collections::{BTreeMap, BTreeSet};

use domstat_layout::RecordKind;

use super::{Define, Member, Parts, Struct};
use crate::{Abi, Field, Group, Header, HeaderError, HeaderWord, Record};

fn fault<T>(line: usize, what: impl Into<String>) -> Result<T, HeaderError> {
    Err(HeaderError { line, what: what.into() })
}

impl Parts {
    pub(super) fn assemble(mut self) -> Result<Abi, HeaderError> {
        let revision = self.number("REVISION")?;
        let mut headers = Vec::new();
        for name in ["dom_header", "record_header"] {
            let Some(found) = self.structs.remove(name) else {
                return fault(0, format!("struct domstat_{name} is missing"));
            };
            headers.push(header(name, found.size, &found.members));
        }
        let mut records: Vec<(String, Struct)> = Vec::new();
        // A record is a structure that starts with a header.
        for name in self.structs.keys().cloned().collect::<Vec<_>>() {
            let is_record = |of: &Struct| of.members.first().is_some_and(|m| m.name == "header");
            if self.structs.get(&name).is_some_and(is_record)
                && let Some(record) = self.structs.remove(&name)
            {
                let kind = name.strip_suffix("_record").unwrap_or(&name);
                records.push((kind.to_owned(), record));
            }
        }
        records.sort_by_key(|(name, _)| {
            let known = RecordKind::ALL.iter().position(|kind| kind.name() == name);
            known.unwrap_or(RecordKind::ALL.len())
        });
        let mut used = BTreeSet::new();
        let mut abi = Abi { revision, constants: BTreeMap::new(), headers, records: Vec::new() };
        for (name, record) in &records {
            let record = self.record(name, record, &mut abi.headers, &mut used)?;
            abi.records.push(record);
        }
        if let Some((name, unused)) = self.structs.iter().find(|(name, _)| !used.contains(*name)) {
            return fault(unused.line, format!("struct domstat_{name} is not part of a record"));
        }
        let constants = std::mem::take(&mut self.constants);
        abi.constants = constants.into_iter().map(|(name, define)| (name, define.text)).collect();
        Ok(abi)
    }

    fn record(
        &mut self,
        name: &str,
        record: &Struct,
        headers: &mut Vec<Header>,
        used: &mut BTreeSet<String>,
    ) -> Result<Record, HeaderError> {
        let Some((header, members)) = record.members.split_first() else {
            return fault(record.line, "a record without a header");
        };
        let of = header.of.as_deref().unwrap_or_default();
        if !matches!(of, "dom_header" | "record_header") || header.offset != 0 {
            return fault(header.line, format!("{} is not a header", header.ty));
        }
        let mut groups = Vec::new();
        for member in members {
            let group = self.group(name, member, headers)?;
            used.extend(member.of.clone());
            groups.push(group);
        }
        let first = groups.iter().map(|g| g.since).min();
        let stated = since_in(&record.comment);
        if let (Some(first), Some(stated)) = (first, stated)
            && first != stated
        {
            let what = format!(
                "the comment of struct domstat_{name} says revision {stated}, its first group {first}"
            );
            return fault(record.line, what);
        }
        let (name, header_len) = (name.to_owned(), header.width);
        Ok(Record { name, header_len, size: record.size, groups })
    }

    fn group(
        &mut self,
        record: &str,
        member: &Member,
        headers: &mut Vec<Header>,
    ) -> Result<Group, HeaderError> {
        let id = format!("{record}_{}", member.name);
        let what = format!("{record}.{}", member.name);
        if member.of.as_deref() != Some(&id) {
            let what = format!("{what} is not a struct domstat_{id}");
            return fault(member.line, what);
        }
        let upper = id.to_uppercase();
        let bit = self.number(&format!("{upper}_BIT"))?;
        let twin_of = format!("{upper}_TWIN_OF");
        let twin_of = match self.constants.contains_key(&twin_of) {
            true => Some(self.number(&twin_of)?),
            false => None,
        };
        let since = member.comment.strip_prefix("since ").and_then(|n| n.parse().ok());
        let Some(since) = since else {
            let what = format!("{what} has no comment that states its revision, as /* since 4 */");
            return fault(member.line, what);
        };
        let Some(body) = self.structs.get(&id) else {
            return fault(member.line, format!("struct domstat_{id} is not defined"));
        };
        if since_in(&body.comment).is_some_and(|stated| stated != since) {
            let what = format!("{what} has two comments that state different revisions");
            return fault(member.line, what);
        }
        let nr_words = body.members.len().min(3);
        let (head, fields) = body.members.split_at(nr_words);
        let head_len = head.last().map_or(0, |last| last.offset + last.width);
        let head = header("group_header", head_len, head);
        match headers.iter().find(|header| header.name == "group_header") {
            None => headers.push(head),
            Some(known) if *known != head => {
                let names: Vec<&str> = known.words.iter().map(|w| w.name.as_str()).collect();
                let what = format!("struct domstat_{id} does not start as other groups do");
                return fault(body.line, format!("{what} ({})", names.join(", ")));
            }
            Some(_) => {}
        }
        let fields: Vec<(usize, Field)> = fields
            .iter()
            .map(|f| Ok((f.line, field(f, &what, member.offset)?)))
            .collect::<Result<_, HeaderError>>()?;
        for (line, field) in &fields {
            self.states(*line, &upper, field)?;
        }
        Ok(Group {
            name: member.name.clone(),
            bit,
            offset: member.offset,
            size: member.width,
            since,
            twin_of,
            fields: fields.into_iter().map(|(_, field)| field).collect(),
        })
    }

    /// Takes a constant that the layout needs.
    fn number(&mut self, name: &str) -> Result<u32, HeaderError> {
        let Some(Define { line, value, .. }) = self.constants.remove(name) else {
            return fault(0, format!("DOMSTAT_{name} is not defined"));
        };
        match value.and_then(|value| u32::try_from(value).ok()) {
            Some(value) => Ok(value),
            None => fault(line, format!("DOMSTAT_{name} is not a number of 32 bits")),
        }
    }

    /// Takes the constants of a field's states, which must agree with its comment.
    fn states(&mut self, line: usize, group: &str, field: &Field) -> Result<(), HeaderError> {
        for (stated, state) in field.states.iter().enumerate() {
            let name = format!("{group}_{}_{state}", field.name).to_uppercase();
            let Some(define) = self.constants.remove(&name) else {
                let what = format!("DOMSTAT_{name}, which this comment names, is not defined");
                return fault(line, what);
            };
            if define.value != Some(stated as u64) {
                let what = format!("DOMSTAT_{name} is {}, its comment says {stated}", define.text);
                return fault(define.line, what);
            }
        }
        Ok(())
    }
}

/// A header from the members of a structure; those that are reserved are left out.
fn header(name: &str, size: usize, members: &[Member]) -> Header {
    let words = members.iter().filter(|member| !member.name.starts_with("reserved"));
    let words = words.map(|member| HeaderWord {
        name: member.name.clone(),
        offset: member.offset,
        width: member.width,
    });
    Header { name: name.to_owned(), size, words: words.collect() }
}

/// The number in `Since revision N.`, if a comment has one.
fn since_in(comment: &str) -> Option<u32> {
    let (_, rest) = comment.rsplit_once("Since revision ")?;
    rest.split('.').next()?.trim().parse().ok()
}

/// A field, whose comment is `kind, unit: states`; its group starts at `base`.
fn field(member: &Member, group: &str, base: usize) -> Result<Field, HeaderError> {
    let (meaning, states) = match member.comment.split_once(':') {
        Some((meaning, states)) => (meaning, states.trim()),
        None => (member.comment.as_str(), ""),
    };
    let (kind, unit) = match meaning.split_once(',') {
        Some((kind, unit)) if !kind.trim().is_empty() && !unit.trim().is_empty() => {
            (kind.trim(), unit.trim())
        }
        _ => {
            let what = format!(
                "{group}.{} has no comment that states kind and unit, as /* cumulative, ns */: \
                 without it, a change of meaning is not found",
                member.name
            );
            return fault(member.line, what);
        }
    };
    let is_text = member.ty == "char";
    if is_text != (kind == "text") {
        let what = format!("{group}.{} is {} and, by its comment, {kind}", member.name, member.ty);
        return fault(member.line, what);
    }
    Ok(Field {
        name: member.name.clone(),
        offset: base.saturating_add(member.offset),
        width: member.width,
        kind: kind.to_owned(),
        unit: unit.to_owned(),
        states: states.split_whitespace().map(str::to_owned).collect(),
    })
}
