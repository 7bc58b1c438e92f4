#!/usr/bin/env bash
# Downloads Debian's cloud kernel and busybox, and unpacks them; installs none.
#   fetch.sh DIR    leaves the unpacked tree in DIR/root
set -euo pipefail
dir=$1
mkdir -p "$dir/deb"
cd "$dir/deb"

kernel=$(apt-cache depends --important linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
packages=(busybox-static "$kernel")
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
