#!/usr/bin/env bash
# Installs domstat with manual pages, completions, C headers, units, rules and dashboard:
#   cargo build --release -p domstat && sudo deploy/install.sh
# Environment: DESTDIR, PREFIX (/usr/local), BINARY (target/release/domstat), STRIP (strip; empty for
# a program with its symbols).
set -euo pipefail
cd "$(dirname "$0")/.."
# What is installed is for every user, whatever the caller's own files are for.
umask 022
prefix=${PREFIX:-/usr/local}
to=${DESTDIR:-}
binary=${BINARY:-${CARGO_TARGET_DIR:-target}/release/domstat}
strip=${STRIP-strip}
[ -x "$binary" ] || { echo "$binary does not exist: cargo build --release -p domstat" >&2; exit 1; }

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
if [ -n "$strip" ] && command -v "$strip" > /dev/null; then
    "$strip" -o "$made/domstat" "$binary"
else
    cp "$binary" "$made/domstat"
fi
install -D "$made/domstat" "$to$prefix/bin/domstat"

"$binary" man --out "$to$prefix/share/man/man1"
complete() { # shell file
    "$binary" completions "$1" > "$made/completions"
    install -D -m 644 "$made/completions" "$to$prefix/share/$2"
}
complete bash bash-completion/completions/domstat
complete zsh zsh/site-functions/_domstat
complete fish fish/vendor_completions.d/domstat.fish

for header in layout/include/domstat/*.h; do
    install -D -m 644 "$header" "$to$prefix/include/domstat/${header##*/}"
done
cat > "$made/domstat.pc" << PC
prefix=$prefix
includedir=\${prefix}/include

Name: domstat
Description: Shared-memory statistics of virtual machines: the layout's headers and a reader
Version: $("$binary" --version | cut -d' ' -f2)
Cflags: -I\${includedir}
PC
install -D -m 644 "$made/domstat.pc" "$to$prefix/share/pkgconfig/domstat.pc"

for unit in deploy/systemd/*.service deploy/systemd/*.socket; do
    sed "s|/usr/local/bin/|$prefix/bin/|" "$unit" > "$made/unit"
    install -D -m 644 "$made/unit" "$to$prefix/lib/systemd/system/${unit##*/}"
done
install -D -m 644 deploy/systemd/domstat.sysusers "$to$prefix/lib/sysusers.d/domstat.conf"
install -D -m 644 deploy/systemd/domstat.tmpfiles "$to$prefix/lib/tmpfiles.d/domstat.conf"
for example in systemd/export-entries.conf prometheus/rules.yml prometheus/scrape.yml grafana/domstat.json; do
    install -D -m 644 "deploy/$example" "$to$prefix/share/domstat/$example"
done

if [ -z "$to" ] && [ -d /run/systemd/system ]; then
    systemd-sysusers "$prefix/lib/sysusers.d/domstat.conf"
    systemd-tmpfiles --create "$prefix/lib/tmpfiles.d/domstat.conf"
    systemctl daemon-reload
    echo "installed; to start it: systemctl enable --now domstat-export"
fi
