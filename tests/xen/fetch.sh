#!/usr/bin/env bash
# Downloads the Debian packages that a Xen host is made of and unpacks them; installs none.
#   fetch.sh DIR    leaves the unpacked tree in DIR/root
set -euo pipefail
dir=$1
mkdir -p "$dir/deb"
cd "$dir/deb"

kernel() { apt-cache depends --important "$1" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1; }
packages=(
    xen-hypervisor-4.17-amd64 xen-utils-4.17 xen-utils-common xenstore-utils
    libxencall1 libxendevicemodel1 libxenevtchn1 libxenforeignmemory1 libxengnttab1 libxenhypfs1
    libxenmisc4.17 libxenstore4 libxentoolcore1 libxentoollog1 libyajl2 libxen-dev
    busybox-static "$(kernel linux-image-amd64)" "$(kernel linux-image-cloud-amd64)"
)
# What exactly there is to be had decides whether the tree is current.
wanted=$(apt-cache show --no-all-versions "${packages[@]}" | grep '^Filename:' | sort)
[ "$(cat ../fetched 2> /dev/null)" = "$wanted" ] && exit 0
rm -rf ../root ../fetched ./*.deb
apt-get -q download "${packages[@]}" &> ../download.log || { cat ../download.log >&2; exit 1; }
mkdir ../root
for package in *.deb; do
    dpkg-deb --extract "$package" ../root
done
rm -f ./*.deb
echo "$wanted" > ../fetched
