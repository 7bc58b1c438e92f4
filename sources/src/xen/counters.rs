//! Counters in files of sysfs, which stay open.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// The files of one directory, one number in each. Holding one proves that the directory existed
/// when it was opened; a directory that was removed and made again is another one.
pub(super) struct Counters<const N: usize> {
    directory: (u64, u64),
    files: [Option<File>; N],
}

impl<const N: usize> Counters<N> {
    /// Opens the files called `names`; one that this kernel does not have is left out.
    pub(super) fn open(directory: &Path, names: [&str; N]) -> io::Result<Self> {
        let identity = identity(directory)?;
        let mut files = [const { None }; N];
        for (file, name) in files.iter_mut().zip(names) {
            *file = match File::open(directory.join(name)) {
                Ok(open) => Some(open),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
        }
        // Nobody has put another in its place meanwhile.
        if self::identity(directory)? != identity {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self { directory: identity, files })
    }

    /// Whether the directory is still the one that was opened.
    pub(super) fn is_current(&self, directory: &Path) -> bool {
        identity(directory).is_ok_and(|now| now == self.directory)
    }

    /// Every number; `None` for a file that there is not.
    ///
    /// Fails with ENODEV once the device is removed.
    pub(super) fn read(&self) -> io::Result<[Option<u64>; N]> {
        let mut values = [None; N];
        for (value, file) in values.iter_mut().zip(&self.files) {
            *value = file.as_ref().map(number).transpose()?;
        }
        Ok(values)
    }
}

fn identity(directory: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(directory)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The number in a file that holds one, in decimal.
fn number(file: &File) -> io::Result<u64> {
    let mut bytes = [0; 32];
    let len = file.read_at(&mut bytes, 0)?;
    let text = str::from_utf8(bytes.get(..len).unwrap_or_default()).unwrap_or_default().trim();
    text.parse().map_err(|_| io::Error::other(format!("{text:?} is not a number")))
}
