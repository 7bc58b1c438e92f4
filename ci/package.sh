#!/usr/bin/env bash
# Checks the packages that other programs depend on: their files, and the metadata that a registry requires. With
# --verify each is compiled from its package, too.
source "$(dirname "$0")/common.sh"
crates="domstat-layout domstat-sigbus domstat-producer domstat-consumer"
of_all=$(printf -- '-p %s ' $crates)
for crate in $crates; do
    list=$(cargo package --list --allow-dirty --locked -p "$crate")
    for file in Cargo.toml LICENSE-APACHE LICENSE-MIT README.md src/lib.rs; do
        grep -qx "$file" <<< "$list" || fail "$crate has no $file"
    done
    alien=$(grep -vE '^(\.cargo_vcs_info\.json|Cargo\.(lock|toml|toml\.orig)|LICENSE-.*|README\.md|TABLE\.md|(src|tests|examples|include|frozen|proptest-regressions)/.*)$' <<< "$list" || true)
    [ -z "$alien" ] || fail "$crate has what nobody needs: $alien"
done
cargo metadata --no-deps --format-version 1 --locked | python3 -c '
import json, sys
for p in json.load(sys.stdin)["packages"]:
    if p["name"] not in sys.argv[1:]:
        assert p["publish"] == [], p["name"] + " must not be published"
        continue
    assert p["publish"] is None and p["description"] and p["license"] and p["rust_version"], p["name"]
    assert 1 <= len(p["keywords"]) <= 5 and 1 <= len(p["categories"]) <= 5, p["name"]
    assert all(len(k) <= 20 for k in p["keywords"]), p["name"]
    assert p["metadata"]["docs"]["rs"]["all-features"], p["name"]
    for d in p["dependencies"]:
        if d["kind"] is None and d.get("path"):
            assert d["req"] != "*" and d["name"] in sys.argv[1:], (p["name"], d["name"])
' $crates || fail "a package lacks what a registry requires"
[ "${1:-}" = --verify ] || verify=--no-verify
cargo package --quiet --allow-dirty --locked ${verify:-} $of_all
echo "packages: $crates"
