//! Architecture-specific records stay inside what the header declares.

use super::{Look, Rule};
use crate::Outcome;

pub(super) const RULE: Rule = Rule {
    id: "I23",
    title: "arch slots lie inside their declared areas",
    source: "design mail",
    requires: &["I01"],
    check,
};

fn check(_: &Look<'_>) -> Outcome {
    Outcome::NotCheckable("revision 1 has no arch slots".to_owned())
}
