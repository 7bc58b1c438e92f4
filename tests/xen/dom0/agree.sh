#!/bin/bash
# What domstat, Xen's tools, sysfs and the domU itself say of the same moments.
. /bin/lib.sh
disk 0 16M
disk 1 16M 4096
domstat run xen --interval 100 2> /tmp/run.log &
run=$!

moment() {
    observe "$1" domstat-before show
    observe "$1" sysfs sysfs
    observe "$1" vcpu-list xl vcpu-list web1
    observe "$1" xl-list xl list web1
    observe "$1" xentop xentop -b -i 1 -v -x -n -f
    observe "$1" record domstat-xen-record "$1"
    observe "$1" domstat show
}
settle() { sleep 0.7; }

wait_for domstat show Domain-0
observe dom0 domstat show Domain-0
observe dom0 xl-list xl list 0
create
up
wait_for domstat show web1
settle
moment booted

domu 'dd if=/dev/xvda of=/dev/null bs=4k count=1024 2>/dev/null'
domu 'dd if=/dev/zero of=/dev/xvda bs=4k count=512 conv=fsync 2>/dev/null'
vif=vif$(domid).0
ip addr add 192.168.9.1/24 dev "$vif"
ip link set "$vif" up
# Each knows the other for good, so that none asks for it later.
arp -i "$vif" -s 192.168.9.2 00:16:3e:00:00:01
domu "ip addr add 192.168.9.2/24 dev eth0; ip link set eth0 up; arp -s 192.168.9.1 $(cat "/sys/class/net/$vif/address")"
domu 'ping -q -c 5 -i 0.2 -s 1000 192.168.9.1'
domu 'i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done'
settle
observe worked domu domu_says worked 'grep . /sys/block/xvda/stat /sys/class/net/eth0/statistics/*x_[bp]*'
moment worked

# A vCPU that wants to run and may not is offline, and no time passes for it.
domu '(i=0; while [ ! -e /stop ]; do i=$((i+1)); done) &'
settle
xl pause web1
settle
moment paused
sleep 1
moment paused-still
xl unpause web1
sleep 1
moment unpaused
domu 'touch /stop'

set_vcpus 3

settle
moment three-vcpus
set_vcpus 1
settle
moment one-vcpu

xl block-attach web1 phy:/dev/loop1 xvdb w
wait_for domu '[ -b /dev/xvdb ]'
domu 'dd if=/dev/xvdb of=/dev/null bs=4k count=256 2>/dev/null; dd if=/dev/zero of=/dev/xvdb bs=4k count=128 conv=fsync 2>/dev/null'
observe attached domu domu_says attached 'grep . /sys/block/xvdb/stat /sys/block/xvdb/queue/*cal_block_size'
settle
moment attached
xl block-detach web1 xvdb
wait_for eval '! [ -e /sys/bus/xen-backend/devices/vbd-$(domid)-51728 ]'
settle
moment detached
xl block-attach web1 phy:/dev/loop1 xvdb w
wait_for domu '[ -b /dev/xvdb ]'
settle
moment reattached
# A name whose number is in the extended scheme.
losetup -d /dev/loop2 2> /dev/null
disk 2 1M
xl block-attach web1 phy:/dev/loop2 xvdq w
wait_for ls "/sys/bus/xen-backend/devices/vbd-$(domid)-268439552/statistics"
settle
moment extended
observe extended check check web1 --watch 2

# A reboot is a new domain of the same name.
domu 'reboot -f' &
before=$(domid)
wait_for eval '[ "$(xl domid web1)" != '"$before"' ]'
kill $! 2> /dev/null
up 2
wait_for domstat show web1
settle
moment rebooted

# Weight, cap, balloon.
xl sched-credit2 -d web1 -w 512 -c 50
xl mem-set web1 120
sleep 1.5
observe weighed domstat domstat show web1 --json --all
observe weighed xl xl sched-credit2 -d web1
observe weighed target xenstore-read "/local/domain/$(domid)/memory/target"
observe weighed vcpu-list xl vcpu-list web1
observe weighed domstat-after domstat show web1 --json --all
xl mem-set web1 128

# More disks than the region has slots.
for loop in 3 4 5 6 7 8 9 10 11 12; do
    node=$(losetup -f)
    truncate -s 1M "/tmp/disk$loop"
    losetup "$node" "/tmp/disk$loop"
    xl block-attach web1 "phy:$node" "xvd$(printf '%b' "\\x$(printf %x $((98 + loop)))")" w
done
many() { [ "$(ls -d /sys/bus/xen-backend/devices/vbd-"$(domid)"-*/statistics | wc -l)" = 13 ]; }
wait_for many
sleep 1.5
observe many domstat show
observe many sysfs ls /sys/bus/xen-backend/devices
observe many check check web1 --watch 1

# Disks of other backends: xenstore lists them, the kernel makes entries of that.
fake() { # KIND DEVID
    local backend=/local/domain/0/backend/$1/$(domid)/$2 frontend
    frontend=/local/domain/$(domid)/device/vbd/$2
    xenstore-write "$frontend/backend-id" 0 "$backend/frontend-id" "$(domid)" \
        "$backend/frontend" "$frontend" "$backend/state" 1
}
fake vbd3 51744
fake vbd3 51760
fake qdisk 51936
tapdisk "$(domid)" 51744 40 30
wait_for ls "/sys/bus/xen-backend/devices/qdisk-$(domid)-51936"
settle
observe others domstat show
observe others check check web1 --watch 1
for disk in vbd3/$(domid)/51744 vbd3/$(domid)/51760 qdisk/$(domid)/51936; do
    xenstore-rm "/local/domain/0/backend/$disk" "/local/domain/$(domid)/device/vbd/${disk##*/}"
done

xl rename web1 web2
wait_for domstat show web2
observe renamed ls domstat ls --json
observe renamed domstat show web2
xl rename web2 web1
wait_for domstat show web1

domstat show web1 --json --watch --interval 0.2 > /tmp/watch.log 2>&1 &
watch=$!
wait_for test -s /tmp/watch.log
xl destroy web1
wait_for eval "! domstat show web1"
wait $watch
echo "@watch-ended $?"
observe destroyed watch tail -n 1 /tmp/watch.log
observe destroyed show domstat show web1
observe destroyed ls domstat ls --json
observe destroyed run cat /tmp/run.log
kill -INT $run
wait $run
echo "@run-ended $?"
observe end console cat $console
