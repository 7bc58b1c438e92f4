#!/usr/bin/env bash
# Installs the system packages that the tests use. Needs root and Debian.
source "$(dirname "$0")/common.sh"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends gcc libc6-dev qemu-system-x86 valgrind
