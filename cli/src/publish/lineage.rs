//! Lineage of a region: which one it follows, and whether counters go on from that one's.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use domstat_consumer::{Reading, Region};
use domstat_layout::latest::{Identity, Lineage};
use domstat_sources::Description;

/// The domain was created, and not restored, reverted or migrated: its cause.
const CREATED: u64 = 0;

/// A region of a domain that another one follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ancestor {
    incarnation: u64,
    /// The session, if the counters go on.
    session: Option<u64>,
}

impl Ancestor {
    /// A region of the same domain that has just been retired.
    pub(super) const fn retired(incarnation: u64, session: u64) -> Self {
        Self { incarnation, session: Some(session) }
    }

    /// The region in a plain file, if it was one of this domain.
    pub(super) fn in_file(path: &Path, description: &Description) -> Option<Self> {
        let region = Region::open(path).ok()?;
        let Ok(Reading::Active(identity)) = region.dom().read::<Identity>() else { return None };
        if identity.uuid.bytes()? != description.uuid? {
            return None;
        }
        // A domain that was created again counts from zero.
        let is_same = identity.created_ns.value() == description.created.map(|created| created.0);
        let session = match region.dom().read::<Lineage>() {
            Ok(Reading::Active(lineage)) if is_same => lineage.session.value(),
            _ => None,
        };
        Some(Self { incarnation: region.header().incarnation, session })
    }

    /// The first of these regions that was one of this domain.
    pub(super) fn among(kept: &[(String, OwnedFd)], description: &Description) -> Option<Self> {
        let path = |fd: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        kept.iter().find_map(|(_, fd)| Self::in_file(&path(fd), description))
    }
}

/// What a region of this incarnation says.
pub(super) fn lineage(
    description: &Description,
    incarnation: u64,
    ancestor: Option<Ancestor>,
) -> Lineage {
    // What else could have happened to a domain of another source is that source's to know.
    let is_ours = description.source == "kvm";
    Lineage {
        session: ancestor.and_then(|a| a.session).unwrap_or(incarnation).into(),
        previous_incarnation: ancestor.map(|a| a.incarnation).into(),
        arrivals: is_ours.then_some(0).into(),
        cause: is_ours.then_some(CREATED).into(),
    }
}

#[cfg(test)]
mod tests {
    use domstat_layout::{Clock, Ns, Word};
    use domstat_producer::RegionBuilder;
    use domstat_sources::Optional;

    use super::*;

    fn description(created: u64) -> Description {
        Description {
            source: "process",
            domid: None,
            uuid: Some([7; 16]),
            name: "a".to_owned(),
            created: Some(Ns(created)),
            nr_vcpus: 1,
            nr_blks: 0,
            nr_nets: 0,
            clock: Clock::Monotonic,
            arch_dom: Vec::new(),
            arch_vcpu: Vec::new(),
            optional: Optional::default(),
            labels: Vec::new(),
        }
    }

    #[test]
    fn a_region_in_a_file_is_followed_by_that_of_the_same_domain() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("region");
        assert_eq!(Ancestor::in_file(&path, &description(5)), None);
        let builder = RegionBuilder::new("a").uuid([7; 16]).created(Ns(5)).clock(Clock::Monotonic);
        let mut new = builder.create_file(&path).unwrap();
        let first = new.unpublished.incarnation();
        let of_first = lineage(&description(5), first, None);
        assert_eq!(of_first.session.value(), Some(first));
        assert_eq!(of_first.previous_incarnation, Word::NOT_PRODUCED);
        assert_eq!(of_first.cause, Word::NOT_PRODUCED);
        new.dom.write(&of_first, Ns(6));
        let region = new.unpublished.publish().unwrap();
        let ancestor = Ancestor::in_file(&path, &description(5)).unwrap();
        let next = lineage(&description(5), 99, Some(ancestor));
        assert_eq!(next.session.value(), Some(first), "its counters go on");
        assert_eq!(next.previous_incarnation.value(), Some(first));
        let again = Ancestor::in_file(&path, &description(8)).unwrap();
        let next = lineage(&description(8), 99, Some(again));
        assert_eq!(
            (next.session.value(), next.previous_incarnation.value()),
            (Some(99), Some(first))
        );
        let other = Description { uuid: Some([8; 16]), ..description(5) };
        assert_eq!(Ancestor::in_file(&path, &other), None);
        drop(region);
    }
}
