#!/usr/bin/env bash
# Lists the files with unsafe code, tests and benches left out, and how much of it there is: blocks,
# functions and impls.
source "$(dirname "$0")/common.sh"
files=$(git ls-files '*.rs' | grep -vE '^(bench|tests)/|/tests(/|\.rs$)' | xargs grep -lE 'allow\(unsafe_code' | sort)
total=0
for file in $files; do
    count=$(grep -v '^ *//' "$file" | grep -oE '\bunsafe( \{| fn| impl)' | wc -l)
    printf '%-36s %4d\n' "$file" "$count"
    total=$((total + count))
done
printf '%-36s %4d\n' total "$total"
