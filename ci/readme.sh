#!/usr/bin/env bash
# Runs a command of README.md exactly as it stands there: ci/readme.sh demo | test
source "$(dirname "$0")/common.sh"
case ${1:-} in
    demo) pattern='^cargo run --release -p domstat -- demo$' ;;
    test) pattern='^cargo test ' ;;
    *) fail "usage: ci/readme.sh demo|test" ;;
esac
command=$(grep -E "$pattern" README.md | head -n 1) || fail "README.md names no such command"
echo "+ $command"
eval "$command"
