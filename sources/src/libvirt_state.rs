//! State of a domain with libvirt's numbers (virDomainState and its reasons), as an arch group.

use domstat_layout::Word;
use domstat_layout::schema::FieldShape;

use crate::{ArchField, ArchGroup};

/// The group: `state` and `reason`.
pub(crate) fn group() -> ArchGroup {
    let field = |name: &str| ArchField { name: name.to_owned(), shape: FieldShape::PLAIN };
    ArchGroup { name: "libvirt_state".to_owned(), fields: vec![field("state"), field("reason")] }
}

/// Its words.
pub(crate) fn words(state: u64, reason: u64) -> [Word; 2] {
    [Word::new(state), Word::new(reason)]
}
