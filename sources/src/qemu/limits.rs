//! Limits on what one QEMU may list, so that a hostile one takes a bounded amount of memory and
//! time, and adds a bounded number of series to the operator's monitoring.

/// Most block devices.
pub const MAX_DEVICES: usize = 1024;
/// Most images: disks with their backing images.
pub const MAX_IMAGES: usize = 1024;
/// Most block nodes. An image has two, a job adds some.
pub const MAX_NODES: usize = 4096;
/// Most block jobs.
pub const MAX_JOBS: usize = 1024;
/// Most vCPUs, and the highest index of one plus 1. QEMU's machines have at most 4,096.
pub const MAX_CPUS: u32 = 4096;
/// Most threads of a process that are looked at by their names.
pub const MAX_THREADS: usize = 16_384;
/// Most IOThreads. A disk has one, as a rule, or shares one.
pub const MAX_IOTHREADS: usize = 1024;
/// Most statistics of the VM and of each vCPU, in words: each bucket of a histogram is one. KVM has
/// some 150.
pub const MAX_STATS: usize = 1024;
/// Most tap interfaces.
pub const MAX_TAPS: usize = 256;
/// Longest name, path or error text, in bytes; what is longer is taken for absent. QEMU's file
/// names have at most 4,096.
pub const MAX_TEXT: usize = 4096;

/// Items of a list, cut to the most that are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed<T> {
    pub(super) items: Vec<T>,
    /// How many more there were.
    pub(super) omitted: usize,
}

impl<T> Listed<T> {
    /// The first `most` of them.
    pub(super) fn first(mut items: impl Iterator<Item = T>, most: usize) -> Self {
        let listed = items.by_ref().take(most).collect();
        Self { items: listed, omitted: items.count() }
    }
}
