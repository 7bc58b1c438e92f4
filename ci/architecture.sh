#!/usr/bin/env bash
# Holds ARCHITECTURE.md against the tree: folders, dependency arrows, where unsafe code is.
source "$(dirname "$0")/common.sh"

# Every folder that is tracked has its row, and every row its folder.
folders=$(git ls-files | grep / | cut -d/ -f1 | grep -v '^\.' | sort -u)
rows=$(grep -oE '^\| `[a-z-]+/`' ARCHITECTURE.md | tr -d '|` /' | sort -u)
diff <(echo "$folders") <(echo "$rows") || fail "ARCHITECTURE.md's folders (>) are not the tree's (<)"

# Every tracked crate imports only what its row allows (of this project's crates).
allowed() {
    case $1 in
        domstat-layout | domstat-sigbus) ;;
        domstat-producer | domstat-consumer) echo domstat-layout domstat-sigbus ;;
        domstat-sources | domstat-abi) echo domstat-layout ;;
        domstat-exporter) echo domstat-layout domstat-consumer ;;
        domstat-bench) echo domstat-layout domstat-producer domstat-consumer ;;
        domstat-invariant-checker) echo domstat-layout domstat-consumer domstat-abi ;;
        *) echo any ;;
    esac
}
cargo metadata --format-version 1 --no-deps --locked | python3 -c '
import json, sys
for p in json.load(sys.stdin)["packages"]:
    deps = [d["name"] for d in p["dependencies"] if d["kind"] is None and d["name"].startswith("domstat")]
    print(p["name"], *deps)' | while read -r crate deps; do
    may=$(allowed "$crate")
    [ "$may" = any ] && continue
    for dep in $deps; do
        [[ " $may " == *" $dep "* ]] || fail "$crate must not depend on $dep"
    done
done

# Unsafe code only in the files that are listed, and no file is listed without need.
unsafe=$(git ls-files '*.rs' | grep -vE '^(bench|fuzz)/|(^|/)tests(/|\.rs$)' | xargs grep -lE 'allow\(unsafe_code' | sort)
listed=$(sed -n '/^## Where unsafe code is/,$p' ARCHITECTURE.md | grep -oE '^\| `[^`]+`' | tr -d '|` ' | sort)
diff <(echo "$unsafe") <(echo "$listed") || fail "files with unsafe code (<) are not the listed ones (>)"
ci/circles.py
echo "ARCHITECTURE.md matches the tree"
