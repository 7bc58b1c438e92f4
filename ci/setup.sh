#!/usr/bin/env bash
# Installs the system packages that the tests use. Needs root and Debian.
source "$(dirname "$0")/common.sh"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends \
    binutils bison clang cpio curl flex g++ gcc gcc-multilib git libc6-dev libvirt-clients \
    libvirt-daemon-system libvirt-dev make openssl patch pkg-config prometheus python3 python3-venv \
    qemu-system-x86 strace systemd tmux valgrind
# A kernel's target, for which tests/no-std is built, too.
if command -v rustup > /dev/null; then
    rustup target add x86_64-unknown-none
fi
