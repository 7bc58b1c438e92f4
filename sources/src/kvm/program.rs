//! What the vCPUs of the micro-VM run: a few bytes of real-mode code, assembled by hand.

/// Guest-physical address of the program; its code segment is 0, so this is its IP, too.
pub(super) const ENTRY: u64 = 0x1000;

/// Guest-physical address of a loop that never leaves KVM_RUN by itself.
#[cfg(test)]
pub(super) const STUCK: u64 = ENTRY + 14;

/// The port that the program writes to; nothing listens there.
#[cfg(test)]
pub(super) const PORT: u16 = 0x10;

/// Rounds of the inner loop per `out`, in BX. Some milliseconds where real mode is emulated, some
/// microseconds where it runs natively.
pub(super) const ROUNDS: u64 = 4000;

/// Computes, does port I/O, and halts if SI is not zero; for ever.
pub(super) const PROGRAM: &[u8] = &[
    0x89, 0xd9, // start:  mov  cx, bx       rounds of the inner loop
    0x40, //       spin:   inc  ax           compute
    0xe2, 0xfd, //         loop spin         cx times
    0xe6, 0x10, //         out  0x10, al     leaves KVM_RUN with KVM_EXIT_IO
    0x85, 0xf6, //         test si, si
    0x74, 0xf5, //         jz   start        a busy vCPU goes on
    0xf4, //               hlt               leaves KVM_RUN with KVM_EXIT_HLT
    0xeb, 0xf2, //         jmp  start
    0xeb, 0xfe, // stuck:  jmp  stuck        never leaves KVM_RUN by itself; for tests
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the short jump whose displacement is the byte at `at` goes to.
    fn target(at: usize) -> usize {
        let displacement = isize::from(PROGRAM[at].cast_signed());
        (at + 1).checked_add_signed(displacement).unwrap()
    }

    #[test]
    fn jumps_go_where_the_comments_say() {
        assert_eq!(PROGRAM.len(), 16);
        assert_eq!(target(4), 2, "loop spin");
        assert_eq!(target(10), 0, "jz start");
        assert_eq!(target(13), 0, "jmp start");
        assert_eq!(target(15), usize::try_from(STUCK - ENTRY).unwrap(), "jmp stuck");
        assert_eq!(u16::from(PROGRAM[6]), PORT);
    }
}
