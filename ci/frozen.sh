#!/usr/bin/env bash
# Fails if the meaning of a revision changed since it was frozen, or if a revision is not frozen:
# its C header, golden regions and the vectors, by their checksums, and its layout as JSON, value by value. The
# JSON may gain values that it did not have. --add freezes what is not frozen.
source "$(dirname "$0")/common.sh"
list=ci/frozen.sha256
layouts=layout/frozen
files=$(git ls-files --cached --others --exclude-standard \
    'layout/include/domstat/r[0-9]*.h' 'tests/golden/r[0-9]*' 'vectors/good/*' 'vectors/bad/*' | sort)
revisions=$(grep -oE 'include/domstat/r[0-9]+' <<< "$files" | grep -oE '[0-9]+$' | sort -n)
[ -n "$revisions" ] || fail "there is nothing to freeze"
listed() { awk '{ print $2 }' "$list"; }
show() { cargo run --quiet --locked -p domstat -- abi show --rev "$1" --json; }
if [ "${1:-}" = --add ]; then
    for file in $files; do
        listed | grep -qxF "$file" || sha256sum "$file" >> "$list"
    done
    for n in $revisions; do
        [ -e "$layouts/r$n.json" ] || show "$n" > "$layouts/r$n.json"
    done
fi
sha256sum --check --strict --quiet "$list" || fail "what is frozen never changes: append a revision instead"
vectors/generate.py --check || fail "the vectors are not what their generator makes"
diff <(echo "$files") <(listed | sort) || fail "files of revisions (<) are not those that are frozen (>)"
for n in $revisions; do
    [ -e "$layouts/r$n.json" ] || fail "the layout of revision $n is not frozen: run ci/frozen.sh --add"
    show "$n" | python3 ci/frozen.py "$layouts/r$n.json" || fail "the layout of revision $n changed: append a revision instead"
done
echo "$(listed | wc -l) files and $(wc -w <<< "$revisions") layouts are as they were frozen"
