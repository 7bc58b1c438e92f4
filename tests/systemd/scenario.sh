#!/bin/bash
# Runs as a service in the machine that ci/systemd.sh boots; what it prints is judged there.
exec > /dev/console 2>&1
trap 'echo "scenario: end"; systemctl poweroff --force --force' EXIT
socket=/run/domstat/1.sock
say() { echo "scenario: $*"; }
field() { # NAME: a word of the dom record as the consumer reads it
    domstat show "$name" --socket $socket --json | grep -o "\"$1\": *[^,}]*" | head -1 | tr -d ' '
}
# A number that only grows: what the process ran so far.
ran() { domstat show "$name" --socket $socket --json | grep -o '"running_ns": *[0-9]*' | head -1 | grep -o '[0-9]*$'; }

say "systemd $(systemctl --version | head -1)"
# By the first consumer that connects, not by hand.
systemctl start domstat-process@1.socket
say "service before anybody connects: $(systemctl is-active domstat-process@1.service)"
# An emulated machine may need longer to start the service than a consumer waits.
for _ in {1..60}; do
    name=$(domstat ls --socket $socket --json | grep -o '"name": *"[^"]*"' | head -1 | cut -d'"' -f4)
    [ -n "$name" ] && break
done
say "service after: $(systemctl is-active domstat-process@1.service)"
say "user: $(ps -o uid= -p "$(systemctl show -P MainPID domstat-process@1.service)" | tr -d " ")"
incarnation=$(field incarnation) before=$(ran)
say "kept: $(systemctl show -P NFileDescriptorStore domstat-process@1.service)"
for _ in 1 2 3; do
    restarts=$(systemctl show -P NRestarts domstat-process@1.service)
    systemctl kill -s SIGKILL domstat-process@1.service
    until [ "$(systemctl show -P NRestarts domstat-process@1.service)" -gt "$restarts" ] \
        && [ "$(systemctl is-active domstat-process@1.service)" = active ]; do sleep 0.1; done
    after=$(ran)
    [ "$(field incarnation)" = "$incarnation" ] && [ "$after" -ge "$before" ] && say "killed: goes on"
    before=$after
done
domstat check "$name" --socket $socket > /run/check.txt
say "check: $? $(grep -o '[0-9]* failed' /run/check.txt)"

systemctl start domstat-export.service
say "export: $(systemctl is-active domstat-export.service) as $(ps -o uid= -p "$(systemctl show -P MainPID domstat-export.service)" | tr -d " ")"
scrape() {
    exec 3<> /dev/tcp/127.0.0.1/9956
    printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
    cat <&3
}
say "scrape: $(scrape | grep -c '^domstat_build_info') build_info"
for _ in {1..30}; do
    up=$(scrape | grep -c '^domstat_up{.*} 1')
    [ "$up" = 1 ] && break
    sleep 0.2
done
say "scrape: $up up at a socket"
systemctl kill -s SIGKILL domstat-process@1.service
for _ in {1..100}; do
    sleep 0.1
    up=$(scrape | grep -c '^domstat_up{.*} 1')
    [ "$up" = 1 ] && [ "$(systemctl is-active domstat-process@1.service)" = active ] && break
done
say "scrape: $up up after a kill"
say "top: $(domstat top -b -n 1 | grep -c ' running ') running"
systemctl start domstat-qemu.service
say "qemu: $(systemctl is-active domstat-qemu.service)"
say "qemu socket: $(stat -c '%a %G' /run/domstat/qemu.sock)"
systemctl start domstat-xen.service
say "xen without Xen: $(systemctl is-active domstat-xen.service)"

# The same attempts in the exporter's sandbox, in that of the drop-in, and without any.
address=$(sed -n 's/^\([0-9a-f]*\)-[0-9a-f]* rw.*/\1/p' /proc/1/maps | head -1)
probe() { # NAME UNIT...: the unit's text with the probe as its program
    sed -e "s|^ExecStart=.*|ExecStart=/usr/bin/perl /usr/local/bin/probe $address|" -e 's/^Type=.*/Type=oneshot/' \
        -e '/^Restart=/d' -e '/^EnvironmentFile=/d' "${@:2}" > "/run/systemd/system/probe-$1.service"
    echo -e '[Service]\nStandardOutput=file:/run/probe-'"$1" >> "/run/systemd/system/probe-$1.service"
    systemctl daemon-reload
    systemctl start "probe-$1.service"
    sed "s/^probe: /scenario: $1: /" "/run/probe-$1"
}
units=/usr/local/lib/systemd/system
printf '[Service]\nType=\nExecStart=\n' > /run/nothing
probe exporter $units/domstat-export.service
probe entries $units/domstat-export.service /usr/local/share/domstat/systemd/export-entries.conf
probe nothing /run/nothing
systemctl stop domstat-qemu.service domstat-export.service domstat-process@1.socket domstat-process@1.service
say "sockets left: $(find /run/domstat -name '*.sock' | wc -l)"
say "failed units: $(systemctl --failed --no-legend | grep -c domstat)"
