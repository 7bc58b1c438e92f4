//! Regions whose records lie in files of their own.

use std::fs::File;
use std::os::fd::AsFd;

use domstat_layout::header::DOM_HEADER_LEN;
use domstat_layout::{CopyWidth, DomHeader, Geometry, GeometryError, MAX_REGION_LEN, RecordKind};

use super::Region;
use super::file::{Backing, FileState, duplicate, length};
use super::mapping::{Mapping, Reserved};
use crate::error::AttachError;

/// Most frames of one region. Each is a mapping of its own, and a process may have some 65,530
/// (vm.max_map_count): half of them are left for others.
const MAX_FRAMES: usize = 32_768;

impl Region {
    /// Attaches to a page-granular region whose records have frames of their own: `dom` holds the
    /// dom record and what belongs to it, `others` one record each and last the schema, in the order of the
    /// region; or, as of earlier producers, one vCPU record each, and last a frame with all that follows. They are
    /// mapped side by side.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn from_frames(dom: impl AsFd, others: &[impl AsFd]) -> Result<Self, AttachError> {
        let what = "the dom record's frame";
        let mut files = vec![duplicate(&dom)?];
        let file = File::from(duplicate(&dom)?);
        let state = FileState::of(&file, what)?;
        let (mut lasting, mut sealed) = (state.is_lasting(), state.is_sealed());
        let dom_len = state.length(what)?;
        if dom_len < DOM_HEADER_LEN as u64 {
            return Err(AttachError::Empty { what: what.to_owned() });
        }
        let first = Mapping::map_file(&file, DOM_HEADER_LEN)
            .map_err(|e| AttachError::os(format!("map {what}"), e))?;
        let first_guard =
            if lasting { None } else { first.shrinkable(vec![DOM_HEADER_LEN as u64])? };
        let bad = |source| AttachError::Geometry { what: what.to_owned(), source };
        let short = GeometryError::TooShort { mapped_len: 0 };
        let header = DomHeader::load(first.mem(CopyWidth::BASELINE)).ok_or(bad(short))?;
        first_guard.map_or(Ok(()), |s| s.check([&file])).map_err(AttachError::Truncated)?;
        let geometry = Geometry::validate(&header, MAX_REGION_LEN).map_err(bad)?;
        let vcpus = geometry.array(RecordKind::Vcpu);
        let frame = |index, found, expected| AttachError::Frame { index, found, expected };
        let page = rustix::param::page_size();
        let whole_pages = vcpus.offs.is_multiple_of(page) && vcpus.stride.is_multiple_of(page);
        if !whole_pages || dom_len < vcpus.offs as u64 {
            return Err(frame(0, dom_len, vcpus.offs.next_multiple_of(page) as u64));
        }
        let places = places(&geometry, others, page)?;
        let os = |e| AttachError::os("map the frames", e);
        let mut range = Reserved::new(geometry.end().next_multiple_of(page)).map_err(os)?;
        range.map(0, vcpus.offs, &file).map_err(os)?;
        let mut lens = vec![vcpus.offs as u64];
        for (i, (fd, (at, len))) in others.iter().zip(places).enumerate() {
            let file = File::from(duplicate(fd)?);
            let state = FileState::of(&file, "a record's frame")?;
            lasting &= state.is_lasting();
            sealed &= state.is_sealed();
            let found = state.length("a record's frame")?;
            if found < len as u64 || !range.map(at, len, &file).map_err(os)? {
                return Err(frame(i + 1, found, len as u64));
            }
            files.push(file.into());
            lens.push(len as u64);
        }
        // Frames that can be truncated are no better than a file.
        let backing = if sealed { Backing::Frames } else { Backing::File };
        let mapping = Mapping::Frames(range);
        let shrinkable = if lasting { None } else { mapping.shrinkable(lens)? };
        Self::validate(mapping, shrinkable, backing, files, what)
    }
}

/// Where each of the frames after the dom record's goes, and how much of it is looked at.
fn places(
    geometry: &Geometry,
    others: &[impl AsFd],
    page: usize,
) -> Result<Vec<(usize, usize)>, AttachError> {
    let vcpus = geometry.array(RecordKind::Vcpu);
    let rest = geometry.end().saturating_sub(vcpus.end());
    let nr = vcpus.nr as usize + usize::from(rest > 0);
    let found = nr.max(others.len());
    if found > MAX_FRAMES {
        return Err(AttachError::TooManyFrames { found, most: MAX_FRAMES });
    }
    if others.len() < nr {
        let (index, expected) = (others.len(), vcpus.stride as u64);
        return Err(AttachError::Frame { index, found: 0, expected });
    }
    let each = (0..vcpus.nr).filter_map(|i| Some((vcpus.offset(i)?, vcpus.stride)));
    if others.len() == nr {
        return Ok(each.chain((rest > 0).then_some((vcpus.end(), rest))).collect());
    }
    // What follows the vCPUs is cut further: the frames lie side by side, each as long as it is. Only the
    // schema, which is in the last, says where all of the records are.
    let mut places: Vec<_> = each.collect();
    let mut at = vcpus.end();
    for (i, fd) in others.iter().enumerate().skip(places.len()) {
        let found = length(fd, "a record's frame")?;
        let left = geometry.end().next_multiple_of(page).saturating_sub(at);
        let is_last = i + 1 == others.len();
        let len = usize::try_from(found).ok().filter(|len| {
            let fits = if is_last { *len >= left } else { *len < left };
            *len > 0 && len.is_multiple_of(page) && fits
        });
        let Some(len) = len else {
            return Err(AttachError::Frame { index: i + 1, found, expected: left as u64 });
        };
        places.push((at, len.min(left)));
        at += len.min(left);
    }
    Ok(places)
}
