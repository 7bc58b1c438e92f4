//! The system calls of the micro-VM that the compiler cannot check: guest memory and the
//! statistics file descriptor.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use memmap2::MmapMut;
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl, ioctl_expr};

/// KVM_GET_STATS_FD, `_IO(KVMIO, 0xce)`.
const KVM_GET_STATS_FD: libc::c_ulong = ioctl_expr(_IOC_NONE, 0xae, 0xce, 0);

/// A VM with its memory. Holding one proves that the memory outlives the VM.
pub(super) struct Vm {
    // Dropped in this order.
    fd: VmFd,
    memory: Arc<MmapMut>,
}

/// A vCPU of a [`Vm`]. It keeps the VM alive in the kernel, and so the memory here.
pub(super) struct Vcpu {
    // Dropped in this order.
    fd: VcpuFd,
    _memory: Arc<MmapMut>,
}

impl Vm {
    /// Gives the VM this memory, from guest-physical address 0 on (KVM_SET_USER_MEMORY_REGION).
    pub(super) fn new(fd: VmFd, memory: MmapMut) -> io::Result<Self> {
        let len = u64::try_from(memory.len()).map_err(io::Error::other)?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: len,
            userspace_addr: u64::try_from(memory.as_ptr().addr()).map_err(io::Error::other)?,
        };
        // From here on the mapping is the VM's: nothing in this process reads or writes it.
        let memory = Arc::new(memory);
        // SAFETY: the region is exactly the private anonymous mapping that `memory` owns, so what
        // the VM writes changes no object of this process. It stays mapped as long as the VM can
        // run: a VM runs through its vCPUs, every vCPU is made by `Vm::vcpu`, and each holds the
        // `Arc` until after its descriptor is closed, as `self` does. The content is never
        // accessed through the `Arc`, so no reference aliases it.
        let result = unsafe { fd.set_user_memory_region(region) };
        result.map_err(os)?;
        Ok(Self { fd, memory })
    }

    /// The VM's file descriptor.
    pub(super) const fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// Makes a vCPU (KVM_CREATE_VCPU).
    pub(super) fn vcpu(&self, id: u32) -> io::Result<Vcpu> {
        let fd = self.fd.create_vcpu(u64::from(id)).map_err(os)?;
        Ok(Vcpu { fd, _memory: Arc::clone(&self.memory) })
    }
}

impl Vcpu {
    /// Runs the vCPU until it exits (KVM_RUN).
    pub(super) fn run(&mut self) -> Result<VcpuExit<'_>, kvm_ioctls::Error> {
        self.fd.run()
    }

    /// The vCPU's file descriptor.
    pub(super) const fn fd(&self) -> &VcpuFd {
        &self.fd
    }
}

/// The statistics file descriptor of a VM or vCPU (KVM_GET_STATS_FD).
pub(super) fn stats_file<F: AsRawFd>(fd: &F) -> io::Result<File> {
    // SAFETY: this request takes no argument, so the kernel neither reads nor writes memory of
    // this process; on a descriptor that is not KVM's it fails.
    let raw = unsafe { ioctl(fd, KVM_GET_STATS_FD) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the request succeeded, so `raw` is an open descriptor that the kernel made for this
    // caller; nothing else owns it.
    let owned = unsafe { OwnedFd::from_raw_fd(raw) };
    Ok(File::from(owned))
}

/// KVM's error as one of the standard library's.
pub(super) fn os(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}
