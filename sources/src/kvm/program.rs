//! What the vCPUs of the micro-VM run: a few bytes of real-mode code, assembled by hand.

/// Guest-physical address of the program; its code segment is 0, so this is its IP, too.
pub(super) const ENTRY: u64 = 0x1000;

/// Guest-physical address of a loop that never leaves KVM_RUN by itself.
#[cfg(test)]
pub(super) const STUCK: u64 = ENTRY + 63;

/// Rounds of the inner loop per `in`, in BX. Some milliseconds where real mode is emulated, some
/// microseconds where it runs natively.
pub(super) const ROUNDS: u64 = 4000;

/// Reads, writes and flushes of one turn of the disk.
#[cfg(test)]
pub(super) const TURN: [u64; 3] = [2, 1, 1];

/// Computes, does port I/O, uses the disk, and halts if SI is not zero; for ever.
///
/// The disk has its turn when its timer says so, as long as BP is not zero; each turn takes DI from
/// BP. It ends when its requests have ended, whose ends wake the vCPU if it has halted meanwhile.
pub(super) const PROGRAM: &[u8] = &[
    0x89, 0xd9, //       start:  mov  cx, bx       rounds of the inner loop
    0x40, //             spin:   inc  ax           compute
    0xe2, 0xfd, //               loop spin         cx times
    0xe4, 0x12, //               in   al, 0x12     leaves KVM_RUN with KVM_EXIT_IO
    0x84, 0xc0, //               test al, al
    0x74, 0x2d, //               jz   rest         not the disk's turn
    0x85, 0xed, //               test bp, bp
    0x74, 0x29, //               jz   rest         no turn is left
    0x29, 0xfd, //               sub  bp, di
    0x42, //                     inc  dx
    0x89, 0xd0, //               mov  ax, dx
    0x25, 0xff, 0x0f, //         and  ax, 0xfff    the next block
    0xe7, 0x22, //               out  0x22, ax
    0xe7, 0x24, //               out  0x24, ax     its first word
    0xb0, 0x01, //               mov  al, 0x01     write, queue 0
    0xe6, 0x20, //               out  0x20, al
    0xb0, 0x10, //               mov  al, 0x10     read, queue 1
    0xe6, 0x20, //               out  0x20, al
    0xb0, 0x00, //               mov  al, 0x00     read, queue 0
    0xe6, 0x20, //               out  0x20, al
    0xb0, 0x12, //               mov  al, 0x12     flush, queue 1
    0xe6, 0x20, //               out  0x20, al
    0xe4, 0x20, //       wait:   in   al, 0x20     requests in flight
    0x84, 0xc0, //               test al, al
    0x74, 0x07, //               jz   rest
    0x85, 0xf6, //               test si, si
    0x74, 0xf6, //               jz   wait         a busy vCPU asks again
    0xf4, //                     hlt
    0xeb, 0xf3, //               jmp  wait
    0x85, 0xf6, //       rest:   test si, si
    0x74, 0xc4, //               jz   start        a busy vCPU goes on
    0xf4, //                     hlt               leaves KVM_RUN with KVM_EXIT_HLT
    0xeb, 0xc1, //               jmp  start
    0xeb, 0xfe, //       stuck:  jmp  stuck        never leaves KVM_RUN by itself; for tests
];

#[cfg(test)]
mod tests {
    use super::super::disk;
    use super::*;

    /// Where the short jump whose displacement is the byte at `at` goes to.
    fn target(at: usize) -> usize {
        let displacement = isize::from(PROGRAM[at].cast_signed());
        (at + 1).checked_add_signed(displacement).unwrap()
    }

    #[test]
    fn jumps_go_where_the_comments_say() {
        assert_eq!(PROGRAM.len(), 65);
        let (wait, rest) = (43, 56);
        assert_eq!(target(4), 2, "loop spin");
        assert_eq!([10, 14, 48].map(target), [rest; 3], "rest");
        assert_eq!([52, 55].map(target), [wait; 2], "wait");
        assert_eq!([59, 62].map(target), [0; 2], "start");
        assert_eq!(target(64), usize::try_from(STUCK - ENTRY).unwrap(), "jmp stuck");
        assert_eq!([PROGRAM[wait], PROGRAM[rest]], [0xe4, 0x85]);
    }

    #[test]
    fn ports_and_commands_are_those_of_the_disk() {
        let port = |at: usize| u16::from(PROGRAM[at]);
        assert_eq!((port(6), port(44)), (disk::TIMER, disk::COMMAND));
        assert_eq!((port(24), port(26)), (disk::BLOCK, disk::DATA));
        assert_eq!([30, 34, 38, 42].map(port), [disk::COMMAND; 4]);
        let commands = [28, 32, 36, 40].map(|at| PROGRAM[at] & 3);
        let of = |operation: u8| commands.into_iter().filter(|&c| c == operation).count() as u64;
        assert_eq!([of(0), of(1), of(2)], TURN);
        let block = u16::from_le_bytes([PROGRAM[21], PROGRAM[22]]);
        assert!(block < disk::NR_BLOCKS, "every block is there");
    }
}
