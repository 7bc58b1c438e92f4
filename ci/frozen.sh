#!/usr/bin/env bash
# Fails if a module, header or golden region of a revision changed since it was frozen, or is not
# frozen; --add freezes what is not.
source "$(dirname "$0")/common.sh"
list=ci/frozen.sha256
files=$(git ls-files --cached --others --exclude-standard \
    'layout/src/r[0-9]*.rs' 'layout/include/domstat/r[0-9]*.h' 'tests/golden/*' | sort)
[ -n "$files" ] || fail "there is nothing to freeze"
listed() { awk '{ print $2 }' "$list"; }
if [ "${1:-}" = --add ]; then
    for file in $files; do
        listed | grep -qxF "$file" || sha256sum "$file" >> "$list"
    done
fi
sha256sum --check --strict --quiet "$list" || fail "what is frozen never changes: append a revision instead"
diff <(echo "$files") <(listed | sort) || fail "files of revisions (<) are not those that are frozen (>)"
echo "$(listed | wc -l) files are as they were frozen"
