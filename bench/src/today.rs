//! The system calls by which a tool learns the same numbers today.
#![allow(unsafe_code)]

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use domstat_consumer::{ReadError, Reading, Region, Sample, Vcpu};
use domstat_layout::latest::Runstate;
use domstat_layout::{Clock, Ns};
use domstat_producer::RegionBuilder;
use kvm_ioctls::Kvm;

use crate::c_reader::CReader;
use crate::harness::{Effort, Spread, Subject, again, pin, race, unpin};
use crate::report::{Report, spread};
use crate::uncontended::{RUNNING_NS, runstate};

/// `_IO(KVMIO, 0xce)`.
const KVM_GET_STATS_FD: libc::Ioctl = 0xaece as libc::Ioctl;

const ABOUT: &str = "One vCPU's numbers, read by domstat and by what there is today: one pread of a \
statistics descriptor of a vCPU that is kept open (KVM_GET_STATS_FD), which the VMM must have \
passed on; the scheduler's books of a thread, opened and read each time because the file cannot be kept \
across the thread's end; a system call that does nothing, \
for scale; and the reader in C of `layout/include`, compiled by `cc -O2`, which copies word by word.";

const SCHEDSTAT: &str = "open and read of /proc/self/schedstat";
const PREAD: &str = "pread of a kept KVM statistics descriptor";
const IN_C: &str = "domstat's reader in C";
/// Rows, and what their figure over domstat's is called.
const KEYS: [(&str, &str); 3] = [
    (SCHEDSTAT, "schedstat_over_read"),
    (PREAD, "kvm_stats_fd_pread_over_read"),
    (IN_C, "c_reader_over_read"),
];

/// Fills the report.
pub fn run(effort: Effort, report: &mut Report) {
    pin(0);
    let mut created =
        RegionBuilder::new("bench").clock(Clock::Monotonic).create_memfd().expect("a memfd");
    created.vcpus.iter_mut().for_each(|vcpu| vcpu.write(&runstate(), Ns(1)));
    let producer = created.unpublished.publish().expect("a memfd can be sealed");
    let fd = producer.as_fd().expect("a memfd").try_clone_to_owned().expect("a descriptor");
    let file = File::from(fd.try_clone().expect("a descriptor"));
    let region = Region::from_fd(fd).expect("our own region");
    let vcpu = region.vcpu(0).expect("a vCPU");
    let c_reader = CReader::build(&file, RUNNING_NS);

    let mut buffer = [0u8; 4096];
    let mut subjects: Vec<(&str, Subject<'_>)> = vec![
        ("domstat, `vcpu.read::<Runstate>()`", again(|| read(black_box(&vcpu)))),
        ("getppid", again(rustix::process::getppid)),
        (
            SCHEDSTAT,
            again(move || {
                let file = File::open("/proc/self/schedstat").expect("this process");
                file.read_at(&mut buffer, 0).expect("its books")
            }),
        ),
    ];
    match StatsFd::open() {
        Ok(stats) => {
            let mut data = vec![0; stats.len];
            let read = again(move || {
                stats.file.read_exact_at(&mut data, stats.offset).expect("KVM's statistics");
                data[0]
            });
            subjects.push((PREAD, read));
        }
        Err(error) => eprintln!("domstat-bench: without KVM's statistics: {error}"),
    }
    match &c_reader {
        Ok(reader) => subjects.push((IN_C, reader.subject())),
        Err(error) => eprintln!("domstat-bench: without the reader in C: {error}"),
    }
    let (names, mut subjects): (Vec<_>, Vec<_>) = subjects.into_iter().unzip();
    let runs = race(effort, &mut subjects);
    report.section("Next to what there is today", ABOUT, &["", "ns", "x domstat"]);
    for (name, times) in names.iter().zip(&runs) {
        let ratio = Spread::ratio(times, &runs[0]);
        report.row(vec![(*name).into(), spread(Spread::of(times)), spread(ratio)]);
    }
    for (name, key) in KEYS {
        if let Some(i) = names.iter().position(|n| *n == name) {
            report.ratio(key, Spread::ratio(&runs[i], &runs[0]));
        }
    }
    unpin();
}

/// A call that returns all that it read, as the other rows do.
#[inline(never)]
fn read(vcpu: &Vcpu<'_>) -> Result<Reading<Sample<Runstate>>, ReadError> {
    vcpu.read()
}

/// The statistics of one vCPU of a VM that is made for this.
struct StatsFd {
    file: File,
    offset: u64,
    len: usize,
    _vm: kvm_ioctls::VmFd,
    _vcpu: kvm_ioctls::VcpuFd,
}

impl StatsFd {
    fn open() -> io::Result<Self> {
        let vm = Kvm::new()?.create_vm()?;
        let vcpu = vm.create_vcpu(0)?;
        // SAFETY: the ioctl takes no argument and touches no memory of ours.
        let fd = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_GET_STATS_FD) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else has.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        // struct kvm_stats_header: flags, name_size, num_desc, id_offset, desc_offset, data_offset.
        let mut header = [0; 24];
        file.read_exact_at(&mut header, 0)?;
        let word = |i: usize| u32::from_le_bytes(std::array::from_fn(|b| header[i * 4 + b]));
        let (name_len, nr_descs, desc_offset) = (word(1), word(2), word(4));
        // All of the data: up to the end of the value that lies last. A descriptor is flags (u32),
        // exponent (i16), size (u16), offset (u32), bucket_size (u32) and the name.
        let mut len = 0;
        for i in 0..nr_descs {
            let mut desc = [0; 12];
            let at = desc_offset + i * (16 + name_len);
            file.read_exact_at(&mut desc, u64::from(at))?;
            let size = usize::from(u16::from_le_bytes([desc[6], desc[7]]));
            let offset = u32::from_le_bytes([desc[8], desc[9], desc[10], desc[11]]) as usize;
            len = len.max(offset + size * 8);
        }
        Ok(Self { file, offset: u64::from(word(5)), len, _vm: vm, _vcpu: vcpu })
    }
}
