//! Hypercalls through /dev/xen/privcmd: only the two that read, into a buffer of this module.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use memmap2::{MmapMut, MmapOptions};
use vmm_sys_util::errno;
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl_expr, ioctl_with_ref};
use zerocopy::{FromBytes, IntoBytes};

use super::domctl::{
    Calls, DomainInfo, DomainInfoList, Domctl, SchedulerOp, Sysctl, VcpuInfo, domain_info_len,
};

/// IOCTL_PRIVCMD_HYPERCALL of Linux' xen/privcmd.h.
const IOCTL_PRIVCMD_HYPERCALL: libc::c_ulong = ioctl_expr(_IOC_NONE, b'P' as u32, 0, CALL_LEN);
/// `sizeof(struct privcmd_hypercall)`.
const CALL_LEN: u32 = 48;
const _: () = assert!(size_of::<Call>() == CALL_LEN as usize);
const HYPERVISOR_XEN_VERSION: u64 = 17;
const HYPERVISOR_SYSCTL: u64 = 35;
const HYPERVISOR_DOMCTL: u64 = 36;
/// Bytes of the buffer: a page for the operation, the rest for what it points at.
const BUFFER_LEN: usize = 16 << 12;
/// Where the latter begins.
const DATA_AT: usize = 1 << 12;
/// Domains that fit.
pub(super) const MOST_DOMAINS: usize = (BUFFER_LEN - DATA_AT) / size_of::<DomainInfo>();

/// `struct privcmd_hypercall`.
#[repr(C)]
struct Call {
    op: u64,
    arg: [u64; 5],
}

/// An open /dev/xen/privcmd with memory that Xen may write.
pub(super) struct Privcmd {
    file: File,
    buffer: MmapMut,
}

impl Privcmd {
    /// Opens `privcmd` and, for the buffer, `hypercall` under `dev`, which is /dev/xen.
    pub(super) fn open(dev: &Path) -> io::Result<Self> {
        let open = |name| OpenOptions::new().read(true).write(true).open(dev.join(name));
        let file = open("privcmd")?;
        let buffer = match open("hypercall") {
            // Memory of the kernel's, which it never moves.
            // SAFETY: the device hands out new zeroed pages to each mapping: no other process and
            // no other mapping of this one sees them.
            Ok(device) => unsafe { MmapOptions::new().len(BUFFER_LEN).map_mut(&device)? },
            Err(_) => {
                // Linux before 4.18 has no such device; what is locked is not swapped out there.
                let map = MmapMut::map_anon(BUFFER_LEN)?;
                map.lock()?;
                map
            }
        };
        Ok(Self { file, buffer })
    }

    fn address(&self, offset: usize) -> u64 {
        self.buffer.as_ptr().addr().wrapping_add(offset) as u64
    }

    fn store(&mut self, bytes: &[u8]) {
        for (to, from) in self.buffer.iter_mut().zip(bytes) {
            *to = *from;
        }
    }

    fn load<T: FromBytes>(&self, offset: usize) -> io::Result<T> {
        let bytes = self.buffer.get(offset..).unwrap_or_default();
        let (value, _) = T::read_from_prefix(bytes)
            .map_err(|_| io::Error::other("the hypercall buffer is too short"))?;
        Ok(value)
    }

    /// A domctl, answered in its own place.
    fn domctl(&mut self, operation: Domctl) -> io::Result<Domctl> {
        self.store(operation.as_bytes());
        let at = self.address(0);
        self.call(HYPERVISOR_DOMCTL, [at, 0])?;
        self.load(0)
    }

    /// One hypercall. Private: the functions of [`Calls`] decide what `op` and `arg` may be.
    fn call(&mut self, op: u64, arg: [u64; 2]) -> io::Result<i32> {
        let [first, second] = arg;
        let call = Call { op, arg: [first, second, 0, 0, 0] };
        // SAFETY: the ioctl reads `call`. The hypercalls are those of `Calls`: they read and write
        // the operation in the first page of `buffer` (Xen's structures are shorter than a page in
        // every version) and the list behind it, at most the number of records that it was given
        // and that fit, each at most as long as `DomainInfo` in the versions that are used.
        // `&mut self` keeps others of this process away meanwhile.
        let returned = unsafe { ioctl_with_ref(&self.file, IOCTL_PRIVCMD_HYPERCALL, &call) };
        if returned >= 0 { Ok(returned) } else { Err(errno::Error::last().into()) }
    }
}

impl Calls for Privcmd {
    fn xen_version(&mut self) -> io::Result<u32> {
        let version = self.call(HYPERVISOR_XEN_VERSION, [0, 0])?;
        u32::try_from(version).map_err(io::Error::other)
    }

    fn vcpu_info(&mut self, version: u32, domid: u16, vcpu: u32) -> io::Result<VcpuInfo> {
        Ok(self.domctl(Domctl::getvcpuinfo(version, domid, vcpu))?.info)
    }

    fn scheduling(&mut self, version: u32, domid: u16, id: u32) -> io::Result<SchedulerOp> {
        Ok(self.domctl(Domctl::getinfo(version, domid, id))?.scheduler_op())
    }

    /// At most [`MOST_DOMAINS`].
    fn domain_infos(
        &mut self,
        version: u32,
        first: u16,
        most: usize,
    ) -> io::Result<Vec<DomainInfo>> {
        let most = u32::try_from(most.min(MOST_DOMAINS)).map_err(io::Error::other)?;
        let list = DomainInfoList::new(first, most, self.address(DATA_AT));
        self.store(Sysctl::new(version, list).as_bytes());
        let at = self.address(0);
        self.call(HYPERVISOR_SYSCTL, [at, 0])?;
        let found = self.load::<Sysctl>(0)?.list.found().min(most);
        let records = self.buffer.get(DATA_AT..).unwrap_or_default();
        let records = records.chunks_exact(domain_info_len(version)).take(found as usize);
        let short = || io::Error::other("the hypercall buffer is too short");
        records.map(|record| DomainInfo::from_record(version, record).ok_or_else(short)).collect()
    }
}

impl std::fmt::Debug for Privcmd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Privcmd").field("fd", &self.file.as_raw_fd()).finish_non_exhaustive()
    }
}
