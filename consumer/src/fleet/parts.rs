//! Parts of domains: regions of their own that other programs publish, such as device processes.
//!
//! A region is a part of the domain `web1` if it is called `web1.NAME`, and
//!
//! * it has the domain's UUID, or has none and runs no vCPU; a region with another UUID is a domain of its own;
//! * its memory belongs to the user who owns the domain's memory, or to root. Who made the memory is the kernel's word;
//!   everything else is the region's.
//!
//! Of the domains `web1` and `web1.b`, `web1.b.vhost0` is a part of the longer one that takes it.

use domstat_layout::latest::{Identity, Runstate};
use domstat_layout::{Group, RecordKind};

use super::Fleet;
use crate::{Attachment, Region};

/// Between the name of a domain and that of a part of it.
pub const SEPARATOR: char = '.';
/// The kernel's default number for users that have none in a user namespace: any of them.
const OVERFLOW_UID: u32 = 65_534;
const ROOT: u32 = 0;

/// How a region stands to the domain after which it is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It is a part of the domain.
    Part,
    /// It is a domain of its own: it has another UUID, or vCPUs.
    OtherDomain,
    /// Another user made its memory, who is not root: it is not believed.
    OtherUser {
        /// Who made it.
        part: u32,
        /// Who made the domain's.
        domain: u32,
    },
    /// It is not known who made its memory or the domain's.
    UnknownUser,
}

/// A member of a fleet that is named after another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The other member's name.
    pub domain: &'a str,
    /// What follows it and a dot.
    pub name: &'a str,
    /// [`Relation::Part`], or why it is not joined.
    pub relation: Relation,
}

impl Part<'_> {
    /// Whether it is a part of the domain.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.relation == Relation::Part
    }
}

impl Relation {
    /// How `part` stands to `domain`, after which it is named.
    #[must_use]
    pub fn of(part: &Attachment, domain: &Attachment) -> Self {
        let (region, whole) = (part.region(), domain.region());
        // The same memory under another name is no part of itself.
        if is_same_memory(region, whole) {
            return Self::OtherDomain;
        }
        let (Ok(own), Ok(other)) = (uuid(region), uuid(whole)) else { return Self::UnknownUser };
        match (own, other) {
            (Some(own), Some(other)) if own != other => return Self::OtherDomain,
            (Some(_), Some(_)) => {}
            _ if has_vcpus(region) => return Self::OtherDomain,
            _ => {}
        }
        match (owner(region), owner(whole)) {
            (Some(part), Some(domain)) if part == domain || part == ROOT => Self::Part,
            (Some(part), Some(domain)) => Self::OtherUser { part, domain },
            _ => Self::UnknownUser,
        }
    }
}

impl std::fmt::Display for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Part => f.write_str("a part of the domain"),
            Self::OtherDomain => f.write_str("a domain of its own"),
            Self::OtherUser { part, domain } => {
                write!(f, "not joined: user {part} published it, and user {domain} the domain")
            }
            Self::UnknownUser => f.write_str("not joined: it is not known who published it"),
        }
    }
}

impl Fleet {
    /// What the member `name` is a part of; `None` if it is not named after another member, or is a domain of
    /// its own. Of several domains the one with the longest name that takes it, else the longest that does not.
    #[must_use]
    pub fn part<'a>(&'a self, name: &'a str) -> Option<Part<'a>> {
        let part = self.get(name)?.attachment().ok()?;
        Part::among(name, part, |prefix| {
            let (domain, member) = self.members.get_key_value(prefix)?;
            Some((domain.as_str(), member.attachment().ok()?))
        })
    }
}

impl<'a> Part<'a> {
    /// As [`Fleet::part`], of a region that is called `name`; `find` gives the member of a name.
    #[must_use]
    pub fn among<'b>(
        name: &'a str,
        part: &Attachment,
        find: impl Fn(&str) -> Option<(&'a str, &'b Attachment)>,
    ) -> Option<Self> {
        let mut refused = None;
        for (at, _) in name.rmatch_indices(SEPARATOR) {
            let (Some(prefix), Some(rest)) = (name.get(..at), name.get(at + 1..)) else { continue };
            let Some((domain, whole)) = find(prefix) else { continue };
            let found = Part { domain, name: rest, relation: Relation::of(part, whole) };
            match found.relation {
                Relation::Part => return Some(found),
                Relation::OtherDomain => {}
                Relation::OtherUser { .. } | Relation::UnknownUser => {
                    refused = refused.or(Some(found))
                }
            }
        }
        refused
    }
}

/// The UUID; an error if it cannot be read now.
fn uuid(region: &Region) -> Result<Option<[u8; 16]>, crate::ReadError> {
    let identity = region.dom().read::<Identity>()?;
    Ok(identity.active().and_then(|identity| identity.uuid.bytes()))
}

/// Whether a vCPU has a state: a device process runs none.
fn has_vcpus(region: &Region) -> bool {
    let vcpus = region.geometry().array(RecordKind::Vcpu);
    (0..vcpus.nr).any(|index| {
        let at = vcpus.offset(index).map(|at| at + RecordKind::Vcpu.active_offset());
        let active = at.and_then(|at| region.mem().load_u64(at)).unwrap_or(0);
        active & Runstate::DESC.mask() != 0
    })
}

/// The user who owns the memory, all of it: who serves a region may have put it together from frames of others.
fn owner(region: &Region) -> Option<u32> {
    let mut owners = region.files().map(|file| Some(rustix::fs::fstat(file).ok()?.st_uid));
    let first = owners.next()??;
    let is_one = owners.all(|owner| owner == Some(first));
    (is_one && first != OVERFLOW_UID).then_some(first)
}

fn is_same_memory(a: &Region, b: &Region) -> bool {
    let first = |region: &Region| {
        let found = rustix::fs::fstat(region.files().next()?).ok()?;
        Some((found.st_dev, found.st_ino))
    };
    first(a).is_some_and(|a| Some(a) == first(b))
}
