#!/usr/bin/env bash
# Prints the reference of the command, for docs/commands.md: every verb's --help.
source "$(dirname "$0")/common.sh"
cargo build --quiet --locked -p domstat
unset DOMSTAT_DIR DOMSTAT_SOCKET CC
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
verbs=(demo run "run process" "run kvm" "run qemu" "run xen" ls show top check block "block list"
    "block threshold" "block jobs" "block job-abort" events export man completions abi "abi diff" "abi show"
    "abi check")
# None is forgotten: every verb has its manual page.
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
"$domstat" man --out "$pages" > "$pages/said"
diff <(printf 'domstat-%s.1\n' "${verbs[@]// /-}" | sort) <(cd "$pages" && ls domstat-*.1 | sort) >&2 ||
    fail "the verbs here (<) are not those of the command (>)"
for verb in "${verbs[@]}"; do
    show "$verb"
done
