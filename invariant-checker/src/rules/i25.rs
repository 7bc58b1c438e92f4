//! Nothing that a consumer was built to read ever moves.

use super::{Look, Rule};
use crate::Outcome;

pub(super) const RULE: Rule = Rule {
    id: "I25",
    title: "across revisions every field keeps its place and meaning",
    source: "design mail",
    requires: &["I01"],
    check,
};

fn check(_: &Look<'_>) -> Outcome {
    Outcome::NotCheckable("a rule about several revisions, and there is one".to_owned())
}
