#!/usr/bin/env bash
# Installs domstat with its manual pages, completions, units, rules and dashboard:
#   cargo build --release -p domstat && sudo deploy/install.sh
# DESTDIR and PREFIX are heeded; BINARY is the program, target/release/domstat by default.
set -euo pipefail
cd "$(dirname "$0")/.."
prefix=${PREFIX:-/usr/local}
to=${DESTDIR:-}
binary=${BINARY:-${CARGO_TARGET_DIR:-target}/release/domstat}
[ -x "$binary" ] || { echo "$binary is not there: cargo build --release -p domstat" >&2; exit 1; }

install -D "$binary" "$to$prefix/bin/domstat"
"$binary" man --out "$to$prefix/share/man/man1"
complete() { # shell file
    install -d "$(dirname "$to$prefix/share/$2")"
    "$binary" completions "$1" > "$to$prefix/share/$2"
}
complete bash bash-completion/completions/domstat
complete zsh zsh/site-functions/_domstat
complete fish fish/vendor_completions.d/domstat.fish

for unit in deploy/systemd/*.service deploy/systemd/*.socket; do
    install -d "$to$prefix/lib/systemd/system"
    sed "s|/usr/local/bin/|$prefix/bin/|" "$unit" > "$to$prefix/lib/systemd/system/${unit##*/}"
done
install -D -m 644 deploy/systemd/domstat.sysusers "$to$prefix/lib/sysusers.d/domstat.conf"
install -D -m 644 deploy/systemd/domstat.tmpfiles "$to$prefix/lib/tmpfiles.d/domstat.conf"
install -D -m 644 deploy/prometheus/rules.yml "$to$prefix/share/domstat/prometheus/rules.yml"
install -D -m 644 deploy/prometheus/scrape.yml "$to$prefix/share/domstat/prometheus/scrape.yml"
install -D -m 644 deploy/grafana/domstat.json "$to$prefix/share/domstat/grafana/domstat.json"

if [ -z "$to" ] && [ -d /run/systemd/system ]; then
    systemd-sysusers "$prefix/lib/sysusers.d/domstat.conf"
    systemd-tmpfiles --create "$prefix/lib/tmpfiles.d/domstat.conf"
    systemctl daemon-reload
    echo "installed; to start it: systemctl enable --now domstat-export"
fi
