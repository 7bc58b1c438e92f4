#!/bin/bash
# What a hypervisor with the patches writes, while the domain works, is paused, gets and loses vCPUs
# and is destroyed under the reader.
. /bin/lib.sh
disk 0 16M

# A domain that never runs, with records in more than one frame; twice, to see what is left behind.
small() {
    sed 's/maxvcpus = 3/maxvcpus = '"$1"'/; s/name = "web1"/name = "small"/; /^disk/d; /^vif/d' \
        /tmp/web1.cfg > /tmp/small.cfg
    xl create -q -p /tmp/small.cfg
}
free_memory() { sleep 1; xl info | sed -n 's/^free_memory *: //p'; }
create
up
observe many before free_memory
for vcpus in 3 29 61; do
    small "$vcpus"
    id=$(xl domid small)
    observe "acquire-$vcpus" acquire acquire "$id" "$vcpus"
    observe "acquire-$vcpus" check check "xen:$id" --watch 0.2
    xl destroy small
done
observe many after free_memory
observe many xl-list xl list
# Two vCPUs were for those who ask at once; from here on one leaves more for the domU.
echo 0 > /sys/devices/system/cpu/cpu1/online

id=$(domid)
observe first acquire acquire "$id" 3
observe first show domstat show "xen:$id"
observe first json domstat show "xen:$id" --json
domu '(i=0; while [ ! -e /stop ]; do i=$((i+1)); done) &'
observe working check check "xen:$id" --watch 5
observe working cost domstat-xen-cost "$id"
# The number of system calls does not depend on how often is read.
for count in 1 50; do
    strace -f -qq -e trace=all -o "/tmp/strace-$count" \
        domstat show "xen:$id" --watch --count "$count" --interval 0.01 --json > "/tmp/json-$count"
    observe "strace-$count" ioctls grep -c 'ioctl(.*_IOC(_IOC_NONE, 0x50' "/tmp/strace-$count"
    observe "strace-$count" samples wc -l "/tmp/json-$count"
done
observe strace calls sh -c "sed 's/^[0-9]* *//; s/(.*//' /tmp/strace-50 | sort | uniq -c | sort -rn | head -8"

xl pause web1
sleep 0.5
observe paused json domstat show "xen:$id" --json
observe paused vcpu-list xl vcpu-list web1
sleep 1
observe paused-still json domstat show "xen:$id" --json
observe paused check check "xen:$id" --watch 2
xl unpause web1
domu 'touch /stop'
check "xen:$id" --watch 8 > /tmp/check.log &
check=$!
set_vcpus 3
observe three json domstat show "xen:$id" --json
observe three vcpu-list xl vcpu-list web1
set_vcpus 1
wait $check
observe hotplug check sh -c 'cat /tmp/check.log'
observe one json domstat show "xen:$id" --json

domstat show "xen:$id" --json --watch --interval 0.1 > /tmp/watch.log 2>&1 &
watch=$!
check "xen:$id" --watch 8 > /tmp/check.log &
check=$!
wait_for test -s /tmp/watch.log
xl destroy web1
wait $watch
echo "@watch-ended $?"
observe destroyed list-held xl list
wait $check
echo "@check-ended $?"
observe destroyed watch tail -n 1 /tmp/watch.log
observe destroyed check cat /tmp/check.log
sleep 2
observe destroyed list-after xl list
observe destroyed show domstat show "xen:$id"
observe end console cat $console
