//! Verdict of consumer and checker on each corrupt region: `corrupt.txt`, three lines each. The
//! consumer refuses each for its own reason, and the checker names the rule and the byte.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::File;
use std::os::unix::fs::FileExt;

use domstat_consumer::region::MappedFile;
use domstat_consumer::{AttachError, Reading, Region};
use domstat_invariant_checker::{Options, Subject, check, fixtures};
use domstat_layout::latest::{BlkIdentity, Identity, NetIdentity};
use domstat_layout::{Name, Schema};

/// What a consumer says to the region: why it does not attach, why it does not use the schema, or
/// which name it does not take for text.
fn refusal(file: &File) -> Option<String> {
    let region = match Region::from_fd(file.try_clone().unwrap()) {
        Ok(region) => region,
        Err(AttachError::Geometry { source, .. }) => return Some(source.to_string()),
        Err(error) => return Some(error.to_string()),
    };
    if let Some(error) = region.copy_schema().and_then(|bytes| Schema::parse(&bytes).err()) {
        return Some(error.to_string());
    }
    fn name<G>(reading: Reading<G>, name: impl Fn(&G) -> Name) -> Option<Name> {
        reading.active().map(|group| name(&group))
    }
    let names = [
        ("dom", name(region.dom().read::<Identity>().unwrap(), |g| g.name)),
        ("blk", name(region.blk(0).unwrap().read::<BlkIdentity>().unwrap(), |g| g.name)),
        ("net", name(region.net(0).unwrap().read::<NetIdentity>().unwrap(), |g| g.name)),
    ];
    let no_text = |(of, name): &(&str, Option<Name>)| {
        name.filter(|name| name.as_str().is_none()).map(|_| format!("the name of {of} is no text"))
    };
    if let Some(refusal) = names.iter().find_map(no_text) {
        return Some(refusal);
    }
    // A schema that speaks of records outside the region is only refused when they are read.
    let bytes = region.copy_schema()?;
    let schema = Schema::parse(&bytes).unwrap();
    let outside = schema.records().find(|record| !record.fits(region.mem().len()))?;
    Some(format!("schema: {} {} records are not inside", outside.nr, outside.name))
}

/// What the checker says: the broken rules, each with its first finding.
fn verdict(file: &File) -> String {
    let mapped = MappedFile::from_fd(file.try_clone().unwrap()).unwrap();
    let report = match check(&Subject::new(mapped.mem()), &Options::default()) {
        Ok(report) => report,
        Err(error) => return error.to_string(),
    };
    let broken = report.rules.iter().filter_map(|rule| {
        let f = rule.findings.first()?;
        Some(format!(
            "{} at byte {}: {}: expected {}, found {}",
            f.rule, f.offset, f.what, f.expected, f.found
        ))
    });
    broken.collect::<Vec<_>>().join("; ")
}

#[test]
fn each_corrupt_region_is_refused_for_its_own_reason() {
    let mut found = String::new();
    for fixtures::Corrupt { name, bytes } in fixtures::corrupt() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        let refused = refusal(&file).unwrap_or_else(|| panic!("{name} is taken"));
        let judged = verdict(&file);
        assert!(!judged.is_empty(), "{name}: the checker finds nothing");
        found += &format!("{name}\n  consumer: {refused}\n  checker: {judged}\n");
    }
    let known = include_str!("corrupt.txt");
    assert!(found == known, "not as in corrupt.txt:\n{found}");
}

#[test]
fn the_region_that_they_are_made_of_is_taken() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&fixtures::good_of_revision_4(), 0).unwrap();
    assert_eq!(refusal(&file), None);
    assert_eq!(verdict(&file), "");
}
