# Sourced by the scenarios: a domU to work with, and observations for the host to judge.
export DOMSTAT_DIR=/run/domstat
console=/var/log/xen/console/guest-web1.log
commands=0

# Waits until a command succeeds; a scenario that waits in vain goes on and fails in its judgment.
wait_for() {
    for _ in $(seq 150); do
        "$@" > /dev/null 2>&1 && return 0
        sleep 0.2
    done
    echo "@timeout $*"
    return 1
}
# Runs a command and marks its output as NAME of moment MOMENT.
observe() {
    echo "@begin $1 $2"
    "${@:3}" 2>&1
    echo "@end $?"
}
# The checker shows its progress on a terminal; here it shall not.
check() { domstat check "$@" 2> /tmp/check.err; local code=$?; cat /tmp/check.err; return $code; }
domid() { xl domid web1; }
show() { domstat show "${1:-web1}" --json; }

disk() { # LOOP SIZE [SECTOR]
    truncate -s "$2" "/tmp/disk$1"
    losetup -b "${3:-512}" "/dev/loop$1" "/tmp/disk$1"
}
create() {
    cat > /tmp/web1.cfg << EOF
name = "web1"
kernel = "/domu/kernel"
ramdisk = "/domu/initrd"
extra = "console=hvc0 quiet mitigations=off"
memory = 128
vcpus = 2
maxvcpus = 3
on_reboot = "restart"
disk = [ "phy:/dev/loop0,xvda,w" ]
vif = [ "mac=00:16:3e:00:00:01,script=vif-none" ]
EOF
    xl create -q /tmp/web1.cfg
}
# The domU is up when it says so for the given time.
up() { wait_for eval "[ \$(grep -c 'domu: up' $console) -ge ${1:-1} ]"; }
# Has the domU run a command, waits for it, and ends as it did.
domu() {
    commands=$((commands + 1))
    local tty
    tty=$(xenstore-read "/local/domain/$(domid)/console/tty") || return 1
    printf '%s\necho domu: done %s. $status.\n' "$1" "$commands" > "$tty"
    wait_for grep -q "domu: done $commands\." $console && grep -q "domu: done $commands\. 0\." $console
}
# Brings vCPUs up or down; the domU's kernel takes down by itself, but brings none up.
set_vcpus() {
    xl vcpu-set --ignore-host web1 "$1"
    wait_for domu "for n in /sys/devices/system/cpu/cpu[12]/online; do [ $1 = 1 ] || echo 1 > \$n; done 2> /dev/null; [ \$(grep -c ^cpu[0-9] /proc/stat) = $1 ]"
}
# What the domU itself says, between two marks in its console.
domu_says() {
    domu "echo domu: say $1; $2"
    sed -n "/domu: say $1/,/domu: done/p" $console | tr -d '\r' | grep -v '^domu:'
}
sysfs() { (cd /sys/bus/xen-backend/devices && grep -r . "vbd-$(domid)-"*/statistics/ "vif-$(domid)-"*/net/*/statistics/[rt]x_{bytes,packets,errors,dropped} 2> /dev/null); }
