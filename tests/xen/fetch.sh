#!/usr/bin/env bash
# Downloads the Debian packages that a Xen host is made of and unpacks them; installs none.
#   fetch.sh DIR    leaves the unpacked tree in DIR/root
set -euo pipefail
source "$(dirname "$0")/../packages.sh"
unpack "$1" \
    xen-hypervisor-4.17-amd64 xen-utils-4.17 xen-utils-common xenstore-utils \
    libxencall1 libxendevicemodel1 libxenevtchn1 libxenforeignmemory1 libxengnttab1 libxenhypfs1 \
    libxenmisc4.17 libxenstore4 libxentoolcore1 libxentoollog1 libyajl2 libxen-dev \
    busybox-static "$(kernel linux-image-amd64)" "$(kernel linux-image-cloud-amd64)"
