//! Generators of the files that are checked in and never edited by hand.
//!
//! `cargo run -q -p xtask -- NAME` prints one of them; `ci/generated.sh` compares each with its file
//! and with `--fix` writes it.

mod commands;
mod embed;
mod limits;
mod metrics_table;
mod rules_table;
mod specification;

use std::error::Error;

use domstat_layout::{REVISIONS, Revision};

const USAGE: &str = "\
usage: xtask NAME
  layout-table     layout/TABLE.md
  c-header [N]     layout/include/domstat/rN.h; without N, the numbers of all revisions
  c-groups         layout/include/domstat/groups.h
  rules-table      docs/checker.md
  commands         first part of docs/reference.md: the help of every command
  embed PAGE       the page, with every program in it as its file stands
  limits PAGE      the page, with the table of limits
  specification PAGE  the page, with its tables of words, limits and clauses
  metrics-table    second part of docs/reference.md: the exporter's series";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["layout-table"] => print!("{}", domstat_layout::markdown::LayoutTable),
        ["c-header"] => REVISIONS.iter().for_each(|revision| println!("{}", revision.number)),
        ["c-header", number] => {
            let revision = Revision::of(number.parse()?).ok_or("no such revision")?;
            print!("{}", domstat_abi::c_header(revision));
        }
        ["c-groups"] => print!("{}", domstat_abi::c_groups()),
        ["rules-table"] => rules_table::print(),
        ["commands"] => commands::print()?,
        ["embed", page] => print!("{}", embed::embed(&std::fs::read_to_string(page)?)?),
        ["limits", page] => print!("{}", limits::page(&std::fs::read_to_string(page)?)?),
        ["specification", page] => {
            print!("{}", specification::page(&std::fs::read_to_string(page)?)?);
        }
        ["metrics-table"] => metrics_table::print(),
        _ => return Err(USAGE.into()),
    }
    Ok(())
}
