//! Finding regions in a directory.

use std::io;
use std::path::{Path, PathBuf};

use crate::{AttachError, Region};

/// What a region's entry in the directory ends in, after the domain's name.
pub const REGION_SUFFIX: &str = ".domstat";

/// An entry of the directory.
pub struct Found {
    /// The domain's name, from the entry's.
    pub name: String,
    /// The entry.
    pub path: PathBuf,
    /// The region, or why it cannot be attached.
    pub region: Result<Region, AttachError>,
}

/// Attaches to every region that is announced in `dir`, in order of their names. A directory that
/// does not exist holds none.
///
/// # Errors
/// [`AttachError::Os`] or [`AttachError::NotPermitted`] if the directory cannot be read.
pub fn find(dir: &Path) -> Result<Vec<Found>, AttachError> {
    let attach = |(name, path): (String, PathBuf)| {
        let region = Region::open(&path);
        Found { name, path, region }
    };
    Ok(entries(dir)?.into_iter().map(attach).collect())
}

/// Names and paths of the entries in `dir`, in order of their names.
pub(crate) fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>, AttachError> {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::PermissionDenied => AttachError::NotPermitted { path: dir.to_owned() },
        _ => AttachError::Os { action: format!("list {}", dir.display()), source: e },
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name =
            path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(REGION_SUFFIX));
        if let Some(name) = name.filter(|n| !n.is_empty() && !n.starts_with('.')) {
            found.push((name.to_owned(), path));
        }
    }
    found.sort();
    Ok(found)
}
