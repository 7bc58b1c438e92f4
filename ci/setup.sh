#!/usr/bin/env bash
# Installs the system packages that the tests use. Needs root and Debian.
source "$(dirname "$0")/common.sh"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends \
    binutils bison clang cpio curl flex g++ gcc gcc-multilib git libc6-dev make openssl patch prometheus \
    python3 qemu-system-x86 strace systemd tmux valgrind
