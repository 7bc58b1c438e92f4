//! Reference of the command line: `--help` of every command and subcommand.

use std::error::Error;
use std::process::{Command, Stdio};

const HEAD: &str = "\
# Reference

<!-- Written by xtask: ci/generated.sh --fix -->

[Commands](#commands) and [metrics](#metrics).

# Commands";

pub(crate) fn print() -> Result<(), Box<dyn Error>> {
    println!("{HEAD}");
    section(&mut Vec::new())
}

/// Prints a command's section, and those of its subcommands after it.
fn section(verbs: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    let help = help(verbs)?;
    let name = [&["domstat".to_owned()], verbs.as_slice()].concat().join(" ");
    println!("\n## `{name}`\n\n```text\n{}\n```", help.trim_end());
    for verb in subcommands(&help) {
        verbs.push(verb.to_owned());
        section(verbs)?;
        verbs.pop();
    }
    Ok(())
}

/// The help of a command, wrapped as without a terminal and with no variable of the environment set.
fn help(verbs: &[String]) -> Result<String, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--locked", "-p", "domstat", "--"]).args(verbs).arg("--help");
    for variable in ["DOMSTAT_DIR", "DOMSTAT_SOCKET", "CC", "COLUMNS"] {
        command.env_remove(variable);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(format!("domstat {} --help: {}", verbs.join(" "), output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Names of the section `Commands:`, each at two columns; wrapped lines stand farther right.
fn subcommands(help: &str) -> Vec<&str> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')))
        .filter_map(|line| line.split(' ').next())
        .filter(|name| *name != "help")
        .collect()
}
