# Sourced by linux/fetch.sh and xen/fetch.sh: Debian packages that are downloaded and unpacked, not installed.

# The package of the kernel that a metapackage stands for.
kernel() { apt-cache depends --important "$1" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1; }

# Leaves the unpacked tree in DIR/root, unless it is there and current.
unpack() { # DIR PACKAGE...
    local dir=$1 wanted package
    shift
    mkdir -p "$dir/deb"
    # What exactly there is to be had decides whether the tree is current.
    wanted=$(apt-cache show --no-all-versions "$@" | grep '^Filename:' | sort)
    [ "$(cat "$dir/fetched" 2> /dev/null)" = "$wanted" ] && return
    rm -rf "$dir/root" "$dir/fetched" "$dir"/deb/*.deb
    (cd "$dir/deb" && apt-get -q download "$@") &> "$dir/download.log" || { cat "$dir/download.log" >&2; return 1; }
    mkdir "$dir/root"
    for package in "$dir"/deb/*.deb; do
        dpkg-deb --extract "$package" "$dir/root"
    done
    rm -f "$dir"/deb/*.deb
    echo "$wanted" > "$dir/fetched"
}
