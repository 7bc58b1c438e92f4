//! Statistics that a Xen hypervisor itself writes, mapped through /dev/xen/privcmd.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use domstat_layout::{CopyWidth, DomHeader, Geometry};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Direction, Opcode, Setter, ioctl, opcode};

use super::file::Backing;
use super::mapping::Mapping;
use super::unvalidated::MappedFile;
use crate::error::AttachError;

/// `struct privcmd_mmap_resource` of Linux' xen/privcmd.h.
#[repr(C)]
struct MmapResource {
    dom: u16,
    kind: u32,
    id: u32,
    /// First frame of the resource.
    idx: u32,
    /// How many frames.
    num: u64,
    addr: u64,
}

const IOCTL_PRIVCMD_MMAP_RESOURCE: Opcode =
    opcode::from_components(Direction::None, b'P', 7, size_of::<MmapResource>());
/// XENMEM_resource_domstat of a hypervisor that has it.
const RESOURCE_DOMSTAT: u32 = 3;
/// Xen's frames on every architecture that privcmd serves.
const FRAME_BYTES: usize = 4096;

impl MappedFile {
    /// Maps the statistics that the hypervisor writes for the domain with this number, read-only.
    /// Whoever is the first to ask makes it write them. `dev` is /dev/xen.
    ///
    /// Mapping costs hypercalls; reading what is mapped costs none. The frames stay valid when the
    /// domain has ended, and Xen keeps what is left of it until they are unmapped.
    ///
    /// # Errors
    /// [`AttachError::Xen`], which says what to do.
    pub fn xen(dev: &Path, domid: u16) -> Result<Self, AttachError> {
        let what = format!("xen:{domid}");
        let error = |source: io::Error| xen_error(&what, dev, source);
        let path = dev.join("privcmd");
        // Not for writing: what is mapped through it cannot be made writable.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| error(e.into()))?;
        let file = File::from(fd);
        let first = map(&file, domid, 1).map_err(error)?;
        // The hypervisor's answer about the size is not to be trusted for a resource that it does
        // not know; the header is, as far as it is valid.
        let header = DomHeader::load(first.mem(CopyWidth::BASELINE));
        let geometry = header.and_then(|header| Geometry::validate(&header, usize::MAX).ok());
        let frames = geometry.map_or(1, |geometry| geometry.end().div_ceil(FRAME_BYTES));
        let mapping = if frames > 1 { map(&file, domid, frames).map_err(error)? } else { first };
        Ok(Self::from_mapping(mapping, Backing::Resource, file, what))
    }
}

/// Maps that many frames of the resource, from its first on.
fn map(privcmd: &File, domid: u16, frames: usize) -> io::Result<Mapping> {
    let len = frames.checked_mul(FRAME_BYTES).ok_or(io::ErrorKind::InvalidData)?;
    // Nothing is there to be read until the ioctl has succeeded.
    let mapping = Mapping::map_file(privcmd, len)?;
    let resource = MmapResource {
        dom: domid,
        kind: RESOURCE_DOMSTAT,
        id: 0,
        idx: 0,
        num: u64::try_from(frames).map_err(io::Error::other)?,
        addr: mapping.address(),
    };
    // SAFETY: the opcode is that of privcmd's ioctl, which reads such a structure.
    let request = unsafe { Setter::<IOCTL_PRIVCMD_MMAP_RESOURCE, MmapResource>::new(resource) };
    // SAFETY: the ioctl puts frames into the range that it is given, which is exactly the mapping
    // of `privcmd` that was made above and that nobody has read.
    unsafe { ioctl(privcmd, request) }?;
    Ok(mapping)
}

fn xen_error(what: &str, dev: &Path, source: io::Error) -> AttachError {
    let hint = match Errno::from_io_error(&source) {
        Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) => format!(
            "run in the control domain (dom0) of a Xen host with {} there",
            dev.join("privcmd").display()
        ),
        Some(Errno::ACCESS) => "run as root in the control domain (dom0)".to_owned(),
        Some(Errno::PERM) => {
            "only another domain's statistics can be mapped, and only in the control domain"
                .to_owned()
        }
        Some(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
            "this Xen does not write them; `domstat run xen` publishes what it tells".to_owned()
        }
        Some(Errno::SRCH) => "there is no such domain: `xl list` shows which there are".to_owned(),
        _ => "that is not expected".to_owned(),
    };
    AttachError::Xen { what: what.to_owned(), source: Arc::new(source), hint }
}
