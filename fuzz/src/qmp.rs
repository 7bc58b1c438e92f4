//! What a QEMU writes to its machine protocol socket: it is decoded as the reply to every question,
//! and means the same wherever a read from the socket ends.

use domstat_sources::qemu::fuzzing::read_all;

/// The target. The first two bytes say where the others are cut.
///
/// # Panics
/// When something does not hold.
pub fn target(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first_chunk::<2>() else { return };
    let cut = usize::from(u16::from_le_bytes(*cut));
    let messages = read_all(bytes, cut);
    assert_eq!(messages, read_all(bytes, bytes.len()), "cut at {cut}");
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    assert!(messages <= lines, "{messages} messages in {lines} lines");
}
