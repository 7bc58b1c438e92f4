#!/usr/bin/env bash
# Lints and tests what is built with the feature `libvirt` only: the source against libvirt's test
# driver, and `domstat run libvirt` against a libvirtd that has directories of its own, in a mount
# namespace of its own, so that no VM of the host is touched. `ci/libvirt.sh exec CMD...` runs a command
# there instead. Needs root, libvirt-daemon-system, libvirt-clients, libvirt-dev and qemu-system-x86;
# virtqemud, for which Debian 12 has no package, is tested where it is installed (/usr/sbin, or DOMSTAT_VIRTQEMUD).
source "$(dirname "$0")/common.sh"
if [ "${1:-}" = inside ]; then
    shift
    mount --make-rprivate /
    mkdir -p /run/libvirt
    for dir in /etc/libvirt /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
        mkdir -p "$LIBVIRT_DIR$dir" "$dir"
        mount --bind "$LIBVIRT_DIR$dir" "$dir"
    done
    cat > /etc/libvirt/qemu.conf << 'CONF'
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
stdio_handler = "file"
CONF
    exec "$@"
fi
for tool in libvirtd virsh qemu-system-x86_64 unshare; do
    PATH=$PATH:/usr/sbin command -v $tool > /dev/null || fail "there is no $tool"
done
LIBVIRT_DIR=$(mktemp -d)
export LIBVIRT_DIR DOMSTAT_LIBVIRT=private
trap 'rm -rf "$LIBVIRT_DIR"' EXIT
if [ "${1:-}" = exec ]; then
    shift
    unshare --mount ci/libvirt.sh inside "$@"
    exit
fi
cargo clippy -p domstat-sources -p domstat --features domstat/libvirt,domstat-sources/libvirt --locked \
    --all-targets -- -D warnings
cargo test -p domstat-sources --features libvirt --locked --lib --test libvirt
cargo test -p domstat --features libvirt --locked --test libvirt_vm --test libvirt_values --no-run
DOMSTAT_REQUIRE=${DOMSTAT_REQUIRE:+$DOMSTAT_REQUIRE,}libvirt timeout 480 unshare --mount ci/libvirt.sh inside \
    cargo test -p domstat --features libvirt --locked --test libvirt_vm --test libvirt_values
