#!/usr/bin/env bash
# Downloads Debian's cloud kernel and busybox, and unpacks them; installs none.
#   fetch.sh DIR    leaves the unpacked tree in DIR/root
set -euo pipefail
source "$(dirname "$0")/../packages.sh"
unpack "$1" busybox-static "$(kernel linux-image-cloud-amd64)"
