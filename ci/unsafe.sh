#!/usr/bin/env bash
# Counts the unsafe code of every file and compares with the section of docs/abi.md; --fix writes it.
source "$(dirname "$0")/common.sh"
page=docs/abi.md
made=$(mktemp)
trap 'rm -f "$made"' EXIT

# Of the files on stdin: a row for each, and their sums.
rows() {
    local files=0 sums=(0 0 0) file code counts i
    echo "| file | unsafe blocks | unsafe impls | unsafe fns |"
    echo "|---|--:|--:|--:|"
    while read -r file; do
        code=$(sed 's#//.*##' "$file")
        counts=()
        for what in 'unsafe( extern "C")? \{' 'unsafe impl' 'unsafe fn'; do
            counts+=("$({ grep -oE "\<$what" <<< "$code" || true; } | wc -l)")
        done
        echo "| \`$file\` | ${counts[0]} | ${counts[1]} | ${counts[2]} |"
        files=$((files + 1))
        for i in 0 1 2; do sums[i]=$((sums[i] + counts[i])); done
    done
    echo "| $files files | ${sums[0]} | ${sums[1]} | ${sums[2]} |"
}

tracked() { git ls-files --cached --others --exclude-standard '*.rs' | xargs grep -lE "^ *#!?\[allow\(unsafe_code" | sort; }
others='^(bench|fuzz|tests)/|/tests/|/tests\.rs$'
{
    sed '/^<!-- Counted by/,$d' "$page"
    echo "<!-- Counted by ci/unsafe.sh --fix -->"
    echo "## Where unsafe code is, and how much"
    echo
    echo "Every crate denies unsafe code except in the files below, and denies a block without a"
    echo "\`// SAFETY:\` comment or with more than one unsafe operation. Blocks are counted by their braces,"
    echo "comments are not counted. ARCHITECTURE.md says what each of the first table's files is for."
    echo
    echo "### What is shipped"
    echo
    tracked | grep -vE "$others" | rows
    echo
    echo "### Tests, benches, fuzz targets"
    echo
    tracked | grep -E "$others" | rows
    sed -n '/^<!-- End of the count/,$p' "$page"
} > "$made"

# What the lint would not see: a file that nobody allowed it.
stray=$(git ls-files '*.rs' | xargs grep -lE '^[^/"]*\<unsafe (\{|impl|fn|extern)' | sort | comm -23 - <(tracked))
[ -z "$stray" ] || fail "unsafe code in files that do not allow it: $stray"

if [ "${1:-}" = --fix ]; then
    cp "$made" "$page"
else
    diff -u "$page" "$made" || fail "$page is stale: look at what is new, then run ci/unsafe.sh --fix"
fi
grep -E '^\| [0-9]+ files' "$made"
