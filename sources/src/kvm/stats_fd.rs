//! KVM's binary statistics of a VM or vCPU: a header, descriptors, data (KVM_GET_STATS_FD, in
//! the kernel's Documentation/virt/kvm/api.rst).
//!
//! Which statistics there are and where differs from kernel to kernel; everything is taken from
//! the header and the descriptors, and nothing in them is trusted.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use domstat_layout::Word;
use domstat_layout::schema::{FieldKind, FieldShape, FieldUnit, MAX_NAME_LEN};

use crate::{ArchField, ArchGroup};

/// Length of the header: six u32.
const HEADER_LEN: usize = 24;
/// Length of a descriptor without its name.
const DESC_LEN: usize = 16;
/// More than any kernel has, by far: what a header may ask us to read.
const MAX_LEN: usize = 1 << 20;

/// One statistic of KVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvmStat {
    /// KVM's name, such as `halt_exits`.
    pub name: String,
    /// Its values: one, or the buckets of a histogram. KVM's descriptor has the unit.
    pub values: Vec<u64>,
}

/// An open statistics file descriptor.
#[derive(Debug)]
pub struct StatsFd {
    file: File,
    layout: Layout,
}

/// Where the statistics lie in the file.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    data_offset: u64,
    data_len: usize,
    descs: Vec<Desc>,
}

#[derive(Debug, PartialEq, Eq)]
struct Desc {
    name: String,
    offset: usize,
    len: usize,
    shape: FieldShape,
}

/// The header, as far as it is needed.
#[derive(Debug)]
struct Header {
    name_len: usize,
    nr_descs: usize,
    desc_offset: u64,
    data_offset: u64,
}

impl StatsFd {
    /// Of a VM's or vCPU's file descriptor.
    ///
    /// # Errors
    /// What the ioctl says (ENOTTY on kernels before 5.14), or `InvalidData` if header and
    /// descriptors contradict each other.
    pub(super) fn open<F: AsRawFd>(fd: &F) -> io::Result<Self> {
        let file = super::sys::stats_file(fd)?;
        let mut header = [0; HEADER_LEN];
        file.read_exact_at(&mut header, 0)?;
        let header = Header::parse(&header).ok_or_else(invalid)?;
        let mut descs = vec![0; header.descs_len().ok_or_else(invalid)?];
        file.read_exact_at(&mut descs, header.desc_offset)?;
        let layout = Layout::parse(&header, &descs).ok_or_else(invalid)?;
        Ok(Self { file, layout })
    }

    /// Reads all statistics, with one pread(2), in the kernel's order.
    ///
    /// # Errors
    /// What the host says.
    pub fn read(&self) -> io::Result<Vec<KvmStat>> {
        let mut data = vec![0; self.layout.data_len];
        self.file.read_exact_at(&mut data, self.layout.data_offset)?;
        self.layout.values(&data).ok_or_else(invalid)
    }
}

impl StatsFd {
    /// The statistics as a group that is called `name`, in the kernel's order; `None` if there
    /// are none that a group can hold.
    pub(super) fn group(&self, name: &str) -> Option<ArchGroup> {
        let field = |desc: &Desc| ArchField { name: desc.name.clone(), shape: desc.shape };
        let fields: Vec<_> = self.layout.publishable().map(field).collect();
        (!fields.is_empty()).then(|| ArchGroup { name: name.to_owned(), fields })
    }

    /// Which word of that group a statistic with one value is.
    pub(super) fn word(&self, name: &str) -> Option<usize> {
        self.layout.word(name)
    }

    /// Reads all statistics of that group, with one pread(2), to the words of `buffer`.
    pub(super) fn read_words<'b>(&self, buffer: &'b mut Buffer) -> io::Result<&'b [Word]> {
        buffer.bytes.resize(self.layout.data_len, 0);
        self.file.read_exact_at(&mut buffer.bytes, self.layout.data_offset)?;
        buffer.words.clear();
        for desc in self.layout.publishable() {
            let end = desc.offset.checked_add(desc.len);
            let bytes = end.and_then(|end| buffer.bytes.get(desc.offset..end));
            let (words, _) = bytes.ok_or_else(invalid)?.as_chunks::<8>();
            buffer.words.extend(words.iter().map(|&word| Word::from(u64::from_ne_bytes(word))));
        }
        Ok(&buffer.words)
    }
}

/// What a read needs, to be used again.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    words: Vec<Word>,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            name_len: usize::try_from(u32_at(bytes, 4)?).ok()?,
            nr_descs: usize::try_from(u32_at(bytes, 8)?).ok()?,
            desc_offset: u64::from(u32_at(bytes, 16)?),
            data_offset: u64::from(u32_at(bytes, 20)?),
        })
    }

    fn desc_stride(&self) -> Option<usize> {
        self.name_len.checked_add(DESC_LEN)
    }

    fn descs_len(&self) -> Option<usize> {
        self.nr_descs.checked_mul(self.desc_stride()?).filter(|&len| len <= MAX_LEN)
    }
}

impl Layout {
    fn parse(header: &Header, descs: &[u8]) -> Option<Self> {
        let stride = header.desc_stride()?;
        let descs: Vec<Desc> =
            descs.chunks_exact(stride).map(Desc::parse).collect::<Option<_>>()?;
        let (mut data_len, mut values_len) = (0, 0usize);
        for desc in &descs {
            data_len = desc.offset.checked_add(desc.len)?.max(data_len);
            // Descriptors that overlap would multiply the data.
            values_len = values_len.checked_add(desc.len)?;
        }
        (data_len <= MAX_LEN && values_len <= MAX_LEN).then_some(Self {
            data_offset: header.data_offset,
            data_len,
            descs,
        })
    }

    /// The statistics that have a name and a value.
    fn publishable(&self) -> impl Iterator<Item = &Desc> {
        self.descs.iter().filter(|d| (1..=MAX_NAME_LEN).contains(&d.name.len()) && d.len > 0)
    }

    /// Which word of those that are published `name` is, if it is one.
    fn word(&self, name: &str) -> Option<usize> {
        let mut at = 0;
        for desc in self.publishable() {
            if desc.name == name {
                return (desc.len == 8).then_some(at);
            }
            at += desc.len / 8;
        }
        None
    }

    fn values(&self, data: &[u8]) -> Option<Vec<KvmStat>> {
        let stat = |desc: &Desc| {
            let bytes = data.get(desc.offset..desc.offset.checked_add(desc.len)?)?;
            let (words, _) = bytes.as_chunks::<8>();
            let values = words.iter().map(|&word| u64::from_ne_bytes(word)).collect();
            Some(KvmStat { name: desc.name.clone(), values })
        };
        self.descs.iter().map(stat).collect()
    }
}

impl Desc {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let size = bytes.get(6..8)?.try_into().ok().map(u16::from_ne_bytes)?;
        let exponent = bytes.get(4..6)?.try_into().ok().map(i16::from_ne_bytes)?;
        let shape = shape(u32_at(bytes, 0)?, exponent, size, u32_at(bytes, 12)?);
        let name = bytes.get(DESC_LEN..)?.split(|&b| b == 0).next()?;
        Some(Self {
            name: String::from_utf8_lossy(name).into_owned(),
            offset: usize::try_from(u32_at(bytes, 8)?).ok()?,
            len: usize::from(size).checked_mul(8)?,
            shape,
        })
    }
}

/// What a descriptor's flags say: type in bits 0 to 3, unit in bits 4 to 7, base in bits 8 to 11.
/// A type or unit that is newer than this code is shown as a plain number.
fn shape(flags: u32, exponent: i16, size: u16, bucket_size: u32) -> FieldShape {
    let kind = match flags & 0xf {
        0 => FieldKind::CUMULATIVE,
        2 => FieldKind::PEAK,
        3 if bucket_size > 0 => FieldKind::LINEAR_HISTOGRAM,
        4 => FieldKind::LOG_HISTOGRAM,
        // Several values that are not a histogram have no kind of their own.
        _ if size > 1 => FieldKind::LOG_HISTOGRAM,
        _ => FieldKind::INSTANT,
    };
    let unit = match flags >> 4 & 0xf {
        1 => FieldUnit::BYTES,
        2 => FieldUnit::SECONDS,
        3 => FieldUnit::CYCLES,
        4 => FieldUnit::BOOLEAN,
        _ => FieldUnit::NONE,
    };
    let base = if flags >> 8 & 0xf == 1 { 2 } else { 10 };
    let histogram = kind.is_histogram();
    FieldShape {
        kind,
        unit,
        base,
        exponent: i32::from(exponent).clamp(-64, 64),
        nr: if histogram { size.into() } else { 0 },
        bucket_size: if kind == FieldKind::LINEAR_HISTOGRAM { bucket_size.into() } else { 0 },
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "KVM's statistics header contradicts itself")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn desc(size: u16, offset: u32, name: &[u8; 8]) -> Vec<u8> {
        let mut bytes = vec![0; 6];
        bytes.extend(size.to_ne_bytes());
        bytes.extend(offset.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(name);
        bytes
    }

    #[test]
    fn statistics_are_where_the_descriptors_say() {
        let header = Header { name_len: 8, nr_descs: 2, desc_offset: 0, data_offset: 0 };
        let descs = [desc(1, 16, b"exits\0\0\0"), desc(2, 0, b"hist\0\0\0\0")].concat();
        let layout = Layout::parse(&header, &descs).unwrap();
        assert_eq!(layout.data_len, 24);
        let data = [7u64, 8, 9].map(u64::to_ne_bytes).concat();
        let stats = layout.values(&data).unwrap();
        assert_eq!(stats[0], KvmStat { name: "exits".to_owned(), values: vec![9] });
        assert_eq!(stats[1], KvmStat { name: "hist".to_owned(), values: vec![7, 8] });
        assert_eq!(layout.values(&data[..16]), None);
        let descs = [desc(2, 0, b"hist\0\0\0\0"), desc(0, 0, b"none\0\0\0\0")].concat();
        let descs = [descs, desc(1, 16, b"exits\0\0\0")].concat();
        let layout = Layout::parse(&header, &descs).unwrap();
        let words = ["exits", "hist", "none", "other"].map(|name| layout.word(name));
        assert_eq!(words, [Some(2), None, None, None]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_read_much(
            header in prop::collection::vec(any::<u8>(), 0..30),
            descs in prop::collection::vec(any::<u8>(), 0..300),
            data in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            if let Some(header) = Header::parse(&header) {
                prop_assert!(header.descs_len().is_none_or(|len| len <= MAX_LEN));
            }
            let header = Header { name_len: 8, nr_descs: 1, desc_offset: 0, data_offset: 0 };
            if let Some(layout) = Layout::parse(&header, &descs) {
                prop_assert!(layout.data_len <= MAX_LEN);
                let _ = layout.values(&data);
            }
        }
    }
}
