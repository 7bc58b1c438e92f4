#!/usr/bin/env bash
# Builds the guest as an image of 64 KiB that is loaded below 4 GiB: tests/libkrun/guest/build.sh IMAGE
set -euo pipefail
image=$(realpath -m "$1")
cd "$(dirname "$0")"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# What is copied to 0x8000 ends below the stacks.
flags=(-m16 -march=i686 -Os -ffreestanding -fno-pic -fno-pie -fno-stack-protector -fno-asynchronous-unwind-tables
    -mgeneral-regs-only -std=gnu11 -Wall -Wextra -Werror -DTIMER_VECTOR=0x20 -DCOPIED=0x4000 -DFIRST_STACK=0xe000
    -DSECOND_STACK=0xf000)
gcc "${flags[@]}" -c guest.c -o "$dir/guest.o"
gcc "${flags[@]}" -c start.S -o "$dir/start.o"
cat > "$dir/guest.ld" << 'END'
SECTIONS {
    . = 0x8000;
    .all : { *(.start) *(.text*) *(.rodata*) *(.data*) *(.bss*) *(COMMON) }
    ASSERT(. <= 0xc000, "the guest is longer than what start.S copies")
    /DISCARD/ : { *(.note*) *(.comment) *(.eh_frame*) }
}
END
ld -m elf_i386 -nostdlib --no-warn-rwx-segments -T "$dir/guest.ld" "$dir/start.o" "$dir/guest.o" -o "$dir/guest.elf"
objcopy -O binary "$dir/guest.elf" "$dir/guest.bin"
cp "$dir/guest.bin" "$image"
truncate -s 65536 "$image"
# The reset vector, 16 bytes before the end: a jump to byte 16 of the image.
printf '\xe9\x1d\x00' | dd of="$image" bs=1 seek=$((0xfff0)) conv=notrunc status=none
