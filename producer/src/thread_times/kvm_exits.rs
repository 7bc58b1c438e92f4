//! Exits of a vCPU from KVM's statistics descriptor (KVM_GET_STATS_FD, in the kernel's
//! Documentation/virt/kvm/api.rst).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use domstat_layout::latest::Exits;
use domstat_layout::{Group, Word};

/// Length of the header: six u32.
const HEADER_LEN: usize = 24;
/// Length of a descriptor without its name.
const DESC_LEN: usize = 16;
/// Most bytes of descriptors, and of data up to the last number that is used: more than any kernel has.
const MAX_LEN: usize = 1 << 20;

/// KVM's names of the numbers, in the order of the group's fields.
const NAMES: [&str; 8] = [
    "exits",
    "io_exits",
    "mmio_exits",
    "halt_exits",
    "irq_exits",
    "signal_exits",
    "hypercalls",
    "insn_emulation",
];

/// KVM's own counters of one vCPU's exits: nothing is counted on the exit path.
///
/// The descriptor is what the ioctl KVM_GET_STATS_FD returns for a vCPU (kernel 5.14). A sample is one
/// `pread64` and allocates nothing. What the kernel does not count is not produced.
#[derive(Debug)]
pub struct KvmExits {
    file: File,
    /// Where the data begin, and the place of each number in them.
    data_offset: u64,
    places: [Option<usize>; NAMES.len()],
    data: Vec<u8>,
}

impl KvmExits {
    /// Takes the statistics descriptor of a vCPU.
    ///
    /// # Errors
    /// What the system says, or [`io::ErrorKind::InvalidData`] if it is not such a descriptor.
    pub fn open(stats: OwnedFd) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let file = File::from(stats);
        let mut header = [0; HEADER_LEN];
        file.read_exact_at(&mut header, 0)?;
        let word = |at| word(&header, at).ok_or_else(invalid);
        let (name_len, nr_descs) = (word(4)? as usize, word(8)? as usize);
        let (desc_offset, data_offset) = (word(16)?, word(20)?);
        let stride = name_len.saturating_add(DESC_LEN);
        let len = nr_descs.checked_mul(stride).filter(|len| *len <= MAX_LEN).ok_or_else(invalid)?;
        let mut descs = vec![0; len];
        file.read_exact_at(&mut descs, u64::from(desc_offset))?;
        let mut places = [None; NAMES.len()];
        for desc in descs.chunks_exact(stride) {
            let name = desc.get(DESC_LEN..).and_then(|name| name.split(|b| *b == 0).next());
            let known = NAMES.iter().position(|known| Some(known.as_bytes()) == name);
            let at = self::word(desc, 8).ok_or_else(invalid)? as usize;
            if let Some(place) = known.and_then(|known| places.get_mut(known)) {
                *place = Some(at);
            }
        }
        let end = places.iter().flatten().max().map_or(0, |at| at.saturating_add(8));
        if end > MAX_LEN {
            return Err(invalid());
        }
        Ok(Self { file, data_offset: data_offset.into(), places, data: vec![0; end] })
    }

    /// The counters as of now.
    ///
    /// # Errors
    /// What the system says.
    pub fn sample(&mut self) -> io::Result<Exits> {
        if self.data.is_empty() {
            return Ok(Exits::NOT_PRODUCED);
        }
        self.file.read_exact_at(&mut self.data, self.data_offset)?;
        let number = |at: Option<usize>| {
            let bytes = self.data.get(at?..at?.checked_add(8)?)?;
            Some(u64::from_ne_bytes(bytes.try_into().ok()?))
        };
        let [
            exits,
            io_exits,
            mmio_exits,
            halt_exits,
            irq_exits,
            signal_exits,
            hypercalls,
            insn_emulation,
        ] = self.places.map(|at| Word::from(number(at)));
        Ok(Exits {
            exits,
            io_exits,
            mmio_exits,
            halt_exits,
            irq_exits,
            signal_exits,
            hypercalls,
            insn_emulation,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}
