//! Generated parts of `docs/spec.md`: the words of the schema, the limits, and the table of clauses
//! with what checks each.
//!
//! A clause is an item `* **RD-1** MUST. Text. Checked by I01, vectors, `path/of/test.rs::function`.` The
//! page is refused if a clause has no check, or names one that does not exist; and if a vector is for a
//! clause that does not say so.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;

use domstat_layout::{MAX_DEVICES, MAX_REGION_LEN, MAX_VCPUS, Rule, handover, schema};
use serde_json::Value;

/// The page with its generated parts.
pub(crate) fn page(page: &str) -> Result<String, Box<dyn Error>> {
    let clauses = clauses(page)?;
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let index = serde_json::from_str(&read("vectors/index.json").ok_or("no index of vectors")?)?;
    let faults = planted(&read("ci/conform.sh").ok_or("no script of the kit")?);
    let checks = Checks { read, vectors: vectors(&index), faults };
    let table = table(&clauses, &checks).map_err(|errors| errors.join("\n"))?;
    let page = between(page, "Words of the schema", "words", &schema_words())?;
    let page = between(&page, "Limits of the ABI", "limits", &limits())?;
    Ok(between(&page, "Clauses", "clauses", &table)?)
}

/// The page with other text between two marks.
fn between(page: &str, begin: &str, end: &str, text: &str) -> Result<String, String> {
    let begin = format!("<!-- {begin}, written by xtask: ci/generated.sh --fix -->\n");
    let end = format!("<!-- End of the {end} -->");
    let (before, rest) = page.split_once(&begin).ok_or(format!("no mark {begin}"))?;
    let (_, after) = rest.split_once(&end).ok_or(format!("no mark {end}"))?;
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}

#[derive(Debug, PartialEq, Eq)]
struct Clause {
    id: String,
    level: String,
    /// What it names after "Checked by".
    checks: Vec<String>,
}

/// The clauses of a page, in their order.
fn clauses(page: &str) -> Result<Vec<Clause>, String> {
    let mut found: Vec<Clause> = Vec::new();
    let mut items: Vec<String> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if let Some(item) = line.strip_prefix("* **") {
            items.push(item.to_owned());
            inside = true;
        } else if let (true, Some(more), Some(item)) =
            (inside, line.strip_prefix("  "), items.last_mut())
        {
            *item = format!("{item} {}", more.trim());
        } else {
            inside = false;
        }
    }
    for item in items {
        let (id, text) = item.split_once("** ").ok_or(format!("not a clause: {item}"))?;
        let level = text.split(['.', ',']).next().unwrap_or_default().to_owned();
        if !["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY"].contains(&level.as_str()) {
            return Err(format!("{id}: {level:?} is not a level"));
        }
        let (_, checks) = text.rsplit_once("Checked by ").unwrap_or_default();
        let checks = checks.trim_end_matches('.').split(", ").map(|check| check.replace('`', ""));
        let checks = checks.filter(|check| !check.is_empty()).collect();
        found.push(Clause { id: id.to_owned(), level, checks });
    }
    Ok(found)
}

/// Everything that a clause can name.
struct Checks<R> {
    /// The text of a file of the tree.
    read: R,
    /// Paths of the vectors, by the clause that they are for.
    vectors: BTreeMap<String, Vec<String>>,
    /// Clauses by which the kit finds a planted fault.
    faults: Vec<String>,
}

/// The clauses of the faults that the kit's script plants, each a word `fault:CLAUSE`.
fn planted(script: &str) -> Vec<String> {
    let list = script.split_once("faults=(").and_then(|(_, rest)| rest.split_once(')'));
    let words = list.map_or("", |(list, _)| list).split_whitespace();
    words.filter_map(|word| Some(word.split_once(':')?.1.to_owned())).collect()
}

/// The paths of the vectors of an index, by clause.
fn vectors(index: &Value) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for entry in index.as_array().into_iter().flatten() {
        let path = entry.get("path").and_then(Value::as_str).unwrap_or_default();
        let clauses = entry.get("clauses").and_then(Value::as_array).into_iter().flatten();
        for clause in clauses.filter_map(Value::as_str) {
            found.entry(clause.to_owned()).or_default().push(path.to_owned());
        }
    }
    found
}

impl<R: Fn(&str) -> Option<String>> Checks<R> {
    /// Why a check of a clause does not exist.
    fn missing(&self, clause: &str, check: &str) -> Option<String> {
        if check == "vectors" {
            let known = self.vectors.contains_key(clause);
            return (!known).then(|| "no vector is for it".to_owned());
        }
        if check == "kit" {
            let known = self.faults.iter().any(|of| of == clause);
            return (!known).then(|| "the kit plants no fault that breaks it".to_owned());
        }
        if is_rule(check) {
            let known = Rule::ALL.iter().any(|rule| rule.id() == check);
            return (!known).then(|| format!("there is no rule {check}"));
        }
        let Some((path, function)) = check.split_once("::") else {
            return Some(format!("{check:?} is neither a rule nor a test"));
        };
        let Some(text) = (self.read)(path) else {
            return Some(format!("there is no file {path}"));
        };
        let known = text.contains(&format!("fn {function}(")) && text.contains("test");
        (!known).then(|| format!("there is no test {function} in {path}"))
    }
}

fn is_rule(check: &str) -> bool {
    check.strip_prefix('I').is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}

/// The table of clauses; the faults if there are any.
fn table<R: Fn(&str) -> Option<String>>(
    clauses: &[Clause],
    checks: &Checks<R>,
) -> Result<String, Vec<String>> {
    let mut faults = Vec::new();
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    let mut rules: Vec<&str> = Vec::new();
    let mut table = String::from(
        "| clause | level | rules | vectors | kit | tests |\n|---|---|---|---|---|---|\n",
    );
    for clause in clauses {
        let Clause { id, level, checks: named } = clause;
        let number = id.split_once('-').and_then(|(part, n)| Some((part, n.parse::<u32>().ok()?)));
        match number {
            Some((part, number)) => {
                let before = last.insert(part, number).unwrap_or(0);
                if number != before + 1 {
                    faults.push(format!("{id} does not follow {part}-{before}"));
                }
            }
            None => faults.push(format!("{id} is not the name of a clause")),
        }
        if named.is_empty() {
            faults.push(format!("{id}: nothing checks it"));
        }
        faults.extend(
            named
                .iter()
                .filter_map(|check| checks.missing(id, check).map(|why| format!("{id}: {why}"))),
        );
        let of_rules: Vec<&str> = named.iter().map(String::as_str).filter(|c| is_rule(c)).collect();
        let tests = named.iter().filter(|check| check.contains("::"));
        let tests: Vec<String> = tests.map(|test| test.replace("::", " ")).collect();
        rules.extend(&of_rules);
        let vectors = checks.vectors.get(id).map_or(&[][..], Vec::as_slice);
        if !vectors.is_empty() && !named.iter().any(|check| check == "vectors") {
            faults.push(format!("{id} does not name its vectors"));
        }
        let nr_planted = checks.faults.iter().filter(|of| *of == id).count();
        if nr_planted > 0 && !named.iter().any(|check| check == "kit") {
            faults.push(format!("{id} does not name the kit"));
        }
        let _ = writeln!(
            table,
            "| {id} | {level} | {} | {} | {} | {} |",
            of_rules.join(" "),
            some_of(vectors),
            if nr_planted == 0 { String::new() } else { format!("faults: {nr_planted}") },
            tests.join("; ")
        );
    }
    let unknown = checks.vectors.keys().filter(|id| !clauses.iter().any(|c| c.id == **id));
    faults.extend(unknown.map(|id| format!("vectors are for {id}, which is not a clause")));
    let unnamed = Rule::ALL.iter().filter(|rule| !rules.contains(&rule.id()));
    faults.extend(unnamed.map(|rule| format!("no clause names rule {rule}")));
    if clauses.is_empty() {
        faults.push("there are no clauses".to_owned());
    }
    if faults.is_empty() { Ok(table) } else { Err(faults) }
}

/// Offset, type and meaning of a word.
type Row = (usize, &'static str, &'static str);

/// Some of many paths, and how many there are: bad ones first.
fn some_of(paths: &[String]) -> String {
    const SHOWN: usize = 3;
    let (bad, good): (Vec<&str>, Vec<&str>) =
        paths.iter().map(String::as_str).partition(|path| path.starts_with("bad/"));
    let all = [bad, good].concat();
    let shown = all.iter().take(SHOWN).copied().collect::<Vec<_>>().join(" ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Tables of the words of a schema.
fn schema_words() -> String {
    use schema::{field, group, head, record};
    let tables: [(&str, usize, &[Row]); 4] = [
        (
            "header",
            schema::HEADER_LEN,
            &[
                (head::MAGIC, "u32", "magic: the bytes `SCH` and 1"),
                (head::NR_RECORDS, "u32", "entries in the table of records"),
                (head::RECORD_LEN, "u32", "length of one of them"),
                (head::NR_GROUPS, "u32", "entries in the table of groups"),
                (head::GROUP_LEN, "u32", "length of one of them"),
                (head::NR_FIELDS, "u32", "entries in the table of fields"),
                (head::FIELD_LEN, "u32", "length of one of them"),
                (head::STRINGS_LEN, "u32", "bytes of strings"),
            ],
        ),
        (
            "entry of the table of records",
            record::LEN,
            &[
                (record::KIND, "u32", "number of the kind"),
                (record::NAME, "u32", "its name"),
                (record::OFFS, "u32", "start of the first record, from the region start"),
                (record::SIZE, "u32", "length of each"),
                (record::STRIDE, "u32", "distance between them"),
                (record::NR, "u32", "how many there are"),
                (record::ACTIVE, "u32", "offset of `stats_active` in the record"),
                (record::HEADER, "u32", "length of the record's header"),
            ],
        ),
        (
            "entry of the table of groups",
            group::LEN,
            &[
                (group::RECORD, "u32", "number of the kind of record that it lies in"),
                (group::BIT, "u32", "its bit in `stats_active`"),
                (group::OFFSET, "u32", "start in the record"),
                (group::SIZE, "u32", "length with header"),
                (group::NAME, "u32", "its name"),
                (group::FIRST_FIELD, "u32", "index of its first field"),
                (group::NR_FIELDS, "u32", "how many fields it has"),
                (
                    group::SINCE,
                    "u32",
                    "the revision that added it; 0 if it was described at run time",
                ),
                (group::TWIN_OF, "u32", "bit of the group that it is a twin of, plus 1; else 0"),
                (group::RESERVED, "u32", "reserved, 0"),
            ],
        ),
        (
            "entry of the table of fields",
            field::LEN,
            &[
                (field::NAME, "u32", "its name"),
                (field::OFFSET, "u32", "start in the record"),
                (field::WIDTH, "u32", "length in bytes, a multiple of 8"),
                (field::KIND, "u32", "number of its kind"),
                (field::UNIT, "u32", "number of its unit"),
                (field::EXPONENT, "i32", "-64 to 64: the value counts `base ^ exponent` units"),
                (field::BASE, "u32", "10 or 2"),
                (field::NR, "u32", "buckets of a histogram, or names of a state; else 0"),
                (field::BUCKET_SIZE, "u64", "width of a linear histogram's bucket; else 0"),
                (field::STATES, "u32", "name of a state's value 0; the others follow it; else 0"),
                (field::RESERVED, "u32", "reserved, 0"),
            ],
        ),
    ];
    let mut text = String::new();
    for (name, len, words) in tables {
        let _ = writeln!(text, "| offset | type | {name}, {len} bytes |\n|---|---|---|");
        for (offset, kind, meaning) in words {
            let _ = writeln!(text, "| {offset} | {kind} | {meaning} |");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// Table of the limits that both sides rely on.
fn limits() -> String {
    let rows = [
        (u64::from(MAX_VCPUS), "vCPUs of a region"),
        (u64::from(MAX_DEVICES), "records of any other array"),
        (MAX_REGION_LEN as u64, "bytes of a region"),
        (schema::MAX_LEN as u64, "bytes of a schema that a reader looks at"),
        (schema::MAX_KINDS as u64, "kinds of records in a schema"),
        (schema::MAX_RECORDS.into(), "records of one kind in a schema"),
        (schema::MAX_ALL_RECORDS, "records of all kinds in a schema"),
        (schema::MAX_RECORD_LEN as u64, "bytes of a record or a group in a schema"),
        (schema::MAX_NAME_LEN as u64, "bytes of a name in a schema, without its terminator"),
        (schema::MAX_STATES.into(), "names of a state"),
        (domstat_layout::directory::MAX_NAME_LEN as u64, "bytes of a domain's name"),
        (handover::MAX_MESSAGE as u64, "bytes of a message of the hand-over"),
        (handover::MAX_NAME as u64, "bytes of a name in such a message"),
        (handover::MAX_FDS as u64, "descriptors of a message"),
        (handover::MAX_DOMAIN_FDS.into(), "descriptors of a domain"),
    ];
    let mut text = String::from("| at most | of |\n|--:|---|\n");
    for (most, of) in rows {
        let _ = writeln!(text, "| {most} | {of} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(page: &str) -> Vec<String> {
        let checks = Checks {
            read: |path: &str| (path == "a.rs").then(|| "#[test]\nfn works() {}\n".to_owned()),
            vectors: vectors(&serde_json::json!([{ "path": "bad/x", "clauses": ["V-1"] }])),
            faults: planted("faults=(\n hangs:K-1\n)\nother:A-1"),
        };
        let faults = clauses(page).map(|clauses| table(&clauses, &checks)).unwrap().unwrap_err();
        let ignored = ["no clause names", "vectors are for V-1"];
        let noted = |fault: &String| !ignored.iter().any(|start| fault.starts_with(start));
        faults.into_iter().filter(noted).collect()
    }

    #[test]
    fn clauses_are_found_with_what_they_name() {
        let page = "* **A-1** MUST. Text\n  and more. Checked by I01, `a.rs::works`.\n\nother\n";
        let clause = Clause {
            id: "A-1".to_owned(),
            level: "MUST".to_owned(),
            checks: vec!["I01".to_owned(), "a.rs::works".to_owned()],
        };
        assert_eq!(clauses(page), Ok(vec![clause]));
        assert!(clauses("* **A-1** OUGHT. Checked by I01.\n").is_err());
        assert_eq!(faults(page), Vec::<String>::new());
    }

    #[test]
    fn a_clause_without_a_check_or_with_one_that_does_not_exist_is_refused() {
        for (page, fault) in [
            ("* **A-1** MUST. Text.\n", "A-1: nothing checks it"),
            ("* **A-1** MUST. Checked by I99.\n", "A-1: there is no rule I99"),
            ("* **A-1** MUST. Checked by hope.\n", "A-1: \"hope\" is neither a rule nor a test"),
            ("* **A-1** MUST. Checked by a.rs::fails.\n", "A-1: there is no test fails in a.rs"),
            ("* **A-1** MUST. Checked by b.rs::works.\n", "A-1: there is no file b.rs"),
            ("* **A-2** MUST. Checked by I01.\n", "A-2 does not follow A-0"),
            ("* **A-1** MUST. Checked by vectors.\n", "A-1: no vector is for it"),
            ("* **V-1** MUST. Checked by I01.\n", "V-1 does not name its vectors"),
            ("* **A-1** MUST. Checked by kit.\n", "A-1: the kit plants no fault that breaks it"),
            ("* **K-1** MUST. Checked by I01.\n", "K-1 does not name the kit"),
            ("", "there are no clauses"),
        ] {
            assert_eq!(faults(page), [fault]);
        }
        let page = "* **V-1** MUST. Checked by vectors.\n";
        assert_eq!(faults(page), Vec::<String>::new());
        let index = serde_json::json!([{ "path": "bad/x", "clauses": ["V-1"] }]);
        let checks = Checks { read: |_: &str| None, vectors: vectors(&index), faults: Vec::new() };
        let all = table(&[], &checks).unwrap_err();
        assert!(all.contains(&"no clause names rule I01".to_owned()));
        assert!(all.contains(&"vectors are for V-1, which is not a clause".to_owned()));
    }
}
