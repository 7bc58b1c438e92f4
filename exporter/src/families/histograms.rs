//! Families of distributions.

use domstat_layout::Group;
use domstat_layout::latest::{FlLatency, RdLatency, RdSize, Wait, WrLatency, WrSize};

use super::family;
use crate::family::{Family, Kind, Origin, Unit};

macro_rules! histograms {
    ($($name:literal $max:literal $unit:ident $group:ident $help:literal;)*) => {
        &[$(
            family(
                concat!("domstat_", $name), Kind::Histogram, Unit::$unit,
                Origin::Histogram($group::DESC), $help,
            ),
            family(
                concat!("domstat_", $max), Kind::Gauge, Unit::$unit,
                Origin::Largest($group::DESC), concat!("Largest of: ", $help),
            ),
        )*]
    };
}

pub(super) const HISTOGRAMS: &[Family] = histograms! {
    "vcpu_wait_seconds" "vcpu_longest_wait_seconds" Seconds Wait
        "Single waits of the vCPU for a physical CPU.";
    "block_read_latency_seconds" "block_longest_read_seconds" Seconds RdLatency
        "Times of single reads, from acceptance to completion.";
    "block_write_latency_seconds" "block_longest_write_seconds" Seconds WrLatency
        "Times of single writes, from acceptance to completion.";
    "block_flush_latency_seconds" "block_longest_flush_seconds" Seconds FlLatency
        "Times of single flushes, from acceptance to completion.";
    "block_read_size_bytes" "block_largest_read_bytes" Bytes RdSize "Sizes of single reads.";
    "block_write_size_bytes" "block_largest_write_bytes" Bytes WrSize "Sizes of single writes.";
};
