#!/usr/bin/env bash
# Prints the reference of the command, for docs/commands.md: every verb's --help.
source "$(dirname "$0")/common.sh"
cargo build --quiet --locked -p domstat
unset DOMSTAT_DIR
domstat=${CARGO_TARGET_DIR:-target}/debug/domstat
echo "# Commands"
echo
echo "<!-- Written by ci/commands.sh: ci/generated.sh --fix -->"
show() {
    echo
    echo "## \`domstat${1:+ $1}\`"
    echo
    echo '```text'
    # shellcheck disable=SC2086
    "$domstat" $1 --help < /dev/null 2> /dev/null
    echo '```'
}
show ""
for verb in demo run "run process" "run kvm" "run qemu" "run xen" ls show top check block \
    "block list" "block threshold" "block jobs" "block job-abort" events export man completions \
    "abi diff" "abi show" "abi check"; do
    show "$verb"
done
