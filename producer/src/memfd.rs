//! Memory and files that hold regions.

use std::fs::File;
use std::io;

use domstat_layout::directory::MAX_NAME_LEN;
use rustix::fs::{FallocateFlags, MemfdFlags, Mode};

use crate::CreateError;
use crate::pieces::{Mapping, Piece};

pub(crate) fn os(action: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> CreateError {
    move |source| CreateError::Os { action: action(), source }
}

/// A memfd with `len` bytes, named after what it holds. `mode` is what it is set to have, if anything.
pub(crate) fn memfd(
    prefix: &str,
    name: &str,
    len: usize,
    mode: Option<u32>,
) -> Result<File, CreateError> {
    // The kernel takes up to 249 bytes; it is for people who look into /proc.
    let cut = (0..=name.len().min(MAX_NAME_LEN)).rev().find(|cut| name.is_char_boundary(*cut));
    let name = name.get(..cut.unwrap_or(0)).unwrap_or_default().replace('\0', "");
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(format!("{prefix}{name}"), flags)
        .map_err(|e| os(|| "create a memfd".into())(e.into()))?;
    let file = File::from(fd);
    allocate(&file, len).map_err(os(|| format!("allocate {len} bytes of memory")))?;
    if let Some(mode) = mode {
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
            .map_err(|e| os(|| "set the memfd's mode".into())(e.into()))?;
    }
    Ok(file)
}

/// Gives the file its length and its memory now, so that no later store finds none.
pub(crate) fn allocate(file: &File, len: usize) -> io::Result<()> {
    file.set_len(len as u64)?;
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len as u64) {
        // A filesystem without fallocate: write the zeros.
        Err(rustix::io::Errno::OPNOTSUPP) => {
            io::copy(&mut io::Read::take(io::repeat(0), len as u64), &mut &*file).map(|_| ())
        }
        other => other.map_err(io::Error::from),
    }
}

/// Maps the file, which has `len` bytes.
pub(crate) fn map(file: &File, len: usize, action: &str) -> Result<Piece, CreateError> {
    Mapping::new(file, len).map(Piece::of_map).map_err(os(|| action.to_owned()))
}

pub(crate) fn random() -> Result<u64, CreateError> {
    let mut bytes = [0u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| os(|| "draw an incarnation number".into())(e.into()))?;
    Ok(u64::from_ne_bytes(bytes))
}
