//! Entry points for fuzzers: everything that reads what a QEMU wrote, without a connection.

use domstat_layout::latest::Memory;
use domstat_layout::{Group, Ns};
use serde_json::Value;

use super::migration::MigrationState;
use super::qmp::Message;
use super::qmp::input::{LineBuffer, message};
use super::stats::{StatsSchema, exits};
use super::{decode, disk, latency};

/// Takes bytes as a connection does, whole and cut at `cut`, and decodes each message as the reply
/// to every question. Returns how many messages there were. Never panics.
pub fn read_all(bytes: &[u8], cut: usize) -> usize {
    let (first, second) = bytes.split_at(cut.min(bytes.len()));
    let mut buffer = LineBuffer::default();
    let mut messages = 0;
    for piece in [first, second] {
        buffer.push(piece);
        while let Ok(Some(line)) = buffer.next_line() {
            let Ok(Some(message)) = message(&line) else { continue };
            messages += 1;
            match message {
                Message::Event { data, .. } => decode_all(&data),
                Message::Reply { result: Ok(value), .. } => decode_all(&value),
                Message::Reply { .. } => {}
            }
        }
    }
    messages
}

/// Decodes a value as the reply to every question.
pub fn decode_all(reply: &Value) {
    let devices = decode::devices(reply).items;
    let names = disk::names(&devices, |_| None, |d| Some(d.device.clone()));
    debug_assert_eq!(names.len(), devices.len());
    let _ = (decode::cpus(reply), decode::max_cpus(reply), decode::nodes(reply));
    let _ = (decode::jobs(reply), decode::job_nodes(reply));
    let _ = (decode::limits(reply), decode::iothreads(reply), latency::latencies(reply));
    let _ = (decode::balloon(reply, Ns(1), 1), MigrationState::default().answer(reply, Ns(1)));
    decode::guest_memory(reply, &mut Memory::NOT_PRODUCED.clone());
    for target in ["vm", "vcpu"] {
        let schema = StatsSchema::new(reply, reply, target);
        let _ = (schema.words(&reply["stats"]), exits(&reply["stats"]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_wherever_the_bytes_are_cut() {
        let bytes = b"{\"event\":\"A\",\"data\":{\"device\":\"\"}}\nnot JSON\n{\"id\":1,\"return\":[{}]}\n{";
        for cut in 0..=bytes.len() {
            assert_eq!(read_all(bytes, cut), 2);
        }
    }
}
