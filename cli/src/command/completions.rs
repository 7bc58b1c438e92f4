//! `domstat completions`: scripts with which shells complete arguments.

use std::io::Write;
use std::process::ExitCode;

use clap_complete::Shell;

use crate::error::Failure;

/// Print the script with which a shell completes this program's arguments
///
/// bash, fish and zsh complete the names of domains, too.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  domstat completions bash > /etc/bash_completion.d/domstat\n  domstat completions fish | source"
)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Names are quoted and never expanded: other processes chose them.
const BASH: &str = r#"
_domstat_domains() {
    _domstat "$@"
    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" name
    case "$prev" in
        show|check|events|list|threshold) ;;
        *) return ;;
    esac
    [[ "$prev" == list || "$prev" == threshold ]] && [[ " ${COMP_WORDS[*]} " != *" block "* ]] && return
    [[ "$cur" == -* ]] && return
    COMPREPLY=()
    while IFS= read -r name; do
        [[ "$name" == "$cur"* ]] && COMPREPLY+=("$(printf %q "$name")")
    done < <("${COMP_WORDS[0]}" ls --names 2>/dev/null)
}
complete -F _domstat_domains -o bashdefault -o default domstat
"#;

const FISH: &str = r#"
complete -c domstat -n "__fish_seen_subcommand_from show check events" -f -a "(domstat ls --names 2>/dev/null)"
complete -c domstat -n "__fish_seen_subcommand_from block; and __fish_seen_subcommand_from list threshold" -f -a "(domstat ls --names 2>/dev/null)"
"#;

const ZSH: &str = r#"
_domstat_domains() {
    local -a names
    names=("${(@f)$(domstat ls --names 2>/dev/null)}")
    compadd -a names
    _files
}
"#;

pub(crate) fn run(args: &Args, mut command: clap::Command) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "domstat", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    match args.shell {
        Shell::Bash => script.push_str(BASH),
        Shell::Fish => script.push_str(FISH),
        Shell::Zsh => script = with_domains(&script),
        _ => {}
    }
    std::io::stdout().lock().write_all(script.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The script for zsh, in which arguments called `domain` complete names.
fn with_domains(script: &str) -> String {
    let is_domain =
        |line: &str| line.starts_with("':domain --") || line.starts_with("'::domain --");
    let line = |line: &str| match is_domain(line) {
        true => line.replace(":_default'", ":_domstat_domains'") + "\n",
        false => line.to_owned() + "\n",
    };
    let (first, rest) = script.split_once('\n').unwrap_or((script, ""));
    format!("{first}\n{ZSH}{}", rest.lines().map(line).collect::<String>())
}
