#!/usr/bin/env bash
# Boots a Xen host under QEMU's TCG until dom0 powers it off; the serial console goes to LOG.
#   boot.sh DIR SCENARIO LOG [SECONDS]    DIR as image.sh left it; dom0 runs /bin/SCENARIO
# XEN is another hypervisor to boot, DOM0_VCPUS the number of dom0's vCPUs.
set -euo pipefail
dir=$1 scenario=$2 log=$3 limit=${4:-240}
: > "$log"
timeout --foreground "$limit" qemu-system-x86_64 \
    -accel tcg,thread=multi,tb-size=128 -cpu qemu64 -m 768 -smp 2 \
    -display none -monitor none -no-reboot -net none \
    -serial "file:$log" \
    -kernel "${XEN:-$dir/xen}" \
    -append "com1=115200,8n1 console=com1 dom0_mem=300M,max:300M dom0_max_vcpus=${DOM0_VCPUS:-1} dom0_vcpus_pin loglvl=warning guest_loglvl=warning" \
    -initrd "$dir/vmlinux console=hvc0 quiet mitigations=off scenario=$scenario,$dir/dom0.cpio.gz"
