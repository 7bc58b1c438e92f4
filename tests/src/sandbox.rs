//! System call filters, from lists of names.

use std::error::Error;
use std::io;
use std::path::Path;

use seccompiler::{TargetArch, apply_filter, compile_from_json};
use serde_json::{Value, json};

/// The rules in a file of tests/sandbox: one a line, a name and conditions on arguments.
///
/// # Errors
/// The file cannot be read.
pub fn rules_in(path: &Path) -> io::Result<Vec<String>> {
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.filter(|line| !line.starts_with('#')).map(str::to_owned).collect())
}

/// The rules that permit these calls, with commas between them, whatever their arguments.
#[must_use]
pub fn named(calls: &str) -> Vec<String> {
    calls.split(',').filter(|call| !call.is_empty()).map(str::to_owned).collect()
}

/// Permits this thread the system calls of `rules` only; any other kills the process by SIGSYS.
///
/// # Errors
/// A rule that cannot be understood, or that the kernel takes no filter.
pub fn restrict(rules: &[String]) -> Result<(), Box<dyn Error>> {
    let filter = rules.iter().map(|rule| parse(rule)).collect::<Option<Vec<_>>>();
    let filter = filter.ok_or("a rule is NAME, then INDEX=VALUE or INDEX&MASK=VALUE")?;
    let all = json!({ "all": {
        "mismatch_action": "kill_process",
        "match_action": "allow",
        "filter": filter,
    }});
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filters = compile_from_json(all.to_string().as_bytes(), arch)?;
    apply_filter(filters.get("all").ok_or("no filter")?)?;
    Ok(())
}

/// A rule as the library's JSON has it.
fn parse(rule: &str) -> Option<Value> {
    let mut parts = rule.split_whitespace();
    let name = parts.next()?;
    let args = parts.map(|part| {
        let (index, value) = part.split_once('=')?;
        let (index, op) = match index.split_once('&') {
            Some((index, mask)) => (index, json!({ "masked_eq": mask.parse::<u64>().ok()? })),
            None => (index, json!("eq")),
        };
        let (index, value) = (index.parse::<u8>().ok()?, value.parse::<u64>().ok()?);
        Some(json!({ "index": index, "type": "dword", "op": op, "val": value }))
    });
    match args.collect::<Option<Vec<_>>>()?.as_slice() {
        [] => Some(json!({ "syscall": name })),
        args => Some(json!({ "syscall": name, "args": args })),
    }
}
