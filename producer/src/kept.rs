//! A region that a process left behind: what of it can be gone on with.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;

use domstat_layout::descriptor::{GROUP_HEADER_LEN, GROUP_UPDATED_NS, Kind};
use domstat_layout::header::{DOM_HEADER_LEN, dom, record};
use domstat_layout::latest::Identity;
use domstat_layout::{DOM_MAGIC, Group, GroupDesc, RecordKind, State, Word};

use crate::Plan;

/// A copy of a region whose writer is gone, so that nothing in it changes any more. Its bytes are
/// looked at as those of any other process are.
pub(crate) struct Kept {
    bytes: Vec<u8>,
}

/// A group as its writer left it.
#[derive(Clone, Debug)]
pub(crate) struct KeptGroup {
    pub(crate) desc: &'static GroupDesc,
    pub(crate) updated_ns: u64,
    /// Raw words.
    pub(crate) words: Vec<u64>,
}

impl Kept {
    /// Reads the region in `fd`; `None` if it has another length than `plan`.
    pub(crate) fn read(fd: impl AsFd, plan: &Plan) -> io::Result<Option<Self>> {
        let mut file = File::from(fd.as_fd().try_clone_to_owned()?);
        if file.metadata()?.len() != plan.total_len() as u64 {
            return Ok(None);
        }
        file.rewind()?;
        let mut bytes = vec![0; plan.total_len()];
        file.read_exact(&mut bytes)?;
        Ok(Some(Self { bytes }))
    }

    fn u32(&self, at: usize) -> u32 {
        self.bytes
            .get(at..at.saturating_add(4))
            .and_then(|b| b.try_into().ok())
            .map_or(0, u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> u64 {
        self.bytes
            .get(at..at.saturating_add(8))
            .and_then(|b| b.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.u64(dom::INCARNATION)
    }

    pub(crate) fn notify(&self) -> u32 {
        self.u32(dom::NOTIFY)
    }

    pub(crate) fn generation(&self, base: usize) -> u32 {
        self.u32(base + record::GENERATION)
    }

    /// Whether it is live, of this shape, and of this domain: `header` is that of the region that
    /// is to go on with it, `schema` likewise.
    pub(crate) fn is_same(
        &self,
        plan: &Plan,
        header: &[u8],
        schema: &[u8],
        who: &Identity,
    ) -> bool {
        // What is of one region alone.
        let own = [dom::MAGIC..4, dom::STATS_ACTIVE..32, dom::STATE..52];
        let same = |at: usize| {
            own.iter().any(|own| own.contains(&at)) || self.bytes.get(at) == header.get(at)
        };
        let section = plan.geometry().schema();
        let identity = self.group(0, Identity::DESC, None, RecordKind::Dom);
        self.u32(dom::MAGIC) == DOM_MAGIC
            && self.u32(dom::STATE) == State::Live as u32
            && header.len() == DOM_HEADER_LEN
            && (0..DOM_HEADER_LEN).all(same)
            && self.bytes.get(section.offs..section.end()) == Some(schema)
            && identity.is_some_and(|kept| {
                zerocopy::IntoBytes::as_bytes(kept.words.as_slice())
                    == zerocopy::IntoBytes::as_bytes(who)
            })
    }

    /// The active groups of the record at `base`, second copies left out.
    pub(crate) fn groups(
        &self,
        base: usize,
        kind: RecordKind,
        groups: &'static [&'static GroupDesc],
    ) -> Vec<KeptGroup> {
        let first_copies = groups.iter().filter(|desc| desc.twin_of.is_none());
        first_copies.filter_map(|desc| self.group(base, desc, desc.twin_in(groups), kind)).collect()
    }

    fn group(
        &self,
        base: usize,
        desc: &'static GroupDesc,
        twin: Option<&GroupDesc>,
        kind: RecordKind,
    ) -> Option<KeptGroup> {
        let active = self.u64(base + kind.active_offset());
        if active & desc.mask() == 0 {
            return None;
        }
        let copy = |of: &GroupDesc| {
            let words = (0..of.payload_words())
                .map(|i| self.u64(base + of.offset + GROUP_HEADER_LEN + i * 8).to_le());
            let updated_ns = self.u64(base + of.offset + GROUP_UPDATED_NS);
            KeptGroup { desc, updated_ns, words: words.collect() }
        };
        let is_whole = |of: &GroupDesc| self.u32(base + of.offset) & 1 == 0;
        if is_whole(desc) {
            return Some(copy(desc));
        }
        // Killed in mid-update of the first copy: the second is of the write before.
        if let Some(twin) = twin.filter(|twin| active & twin.mask() != 0 && is_whole(twin)) {
            return Some(copy(twin));
        }
        mend(copy(desc))
    }
}

/// What is left of a group that was killed in mid-update and has no other copy: each word is from
/// before the update or of it. Of counters either will do, since neither goes back; what the other
/// words said together is not known.
fn mend(mut group: KeptGroup) -> Option<KeptGroup> {
    if group.desc.fields.iter().any(|field| field.width != 8) {
        return None;
    }
    for (field, word) in group.desc.fields.iter().zip(&mut group.words) {
        if field.kind != Kind::Cumulative {
            *word = Word::NOT_PRODUCED.to_raw();
        }
    }
    Some(group)
}
