//! Nothing is written that stats_active does not announce.

use super::{Look, Rule, finding, no_watch, pairs};
use crate::{GroupLook, Outcome};

pub(super) const RULE: Rule = Rule {
    id: "I14",
    title: "bytes of an inactive group do not change",
    source: "design mail",
    requires: &["I13"],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let Some(previous) = look.previous else { return no_watch() };
    let mut findings = Vec::new();
    for (before, now) in pairs(previous, look.current) {
        // A slot that was given to something else, and a group whose seq moved on, may have been
        // active in between.
        let reactivated = previous.u32(now.base()) != look.current.u32(now.base());
        let inactive = matches!(now.look, GroupLook::Inactive { .. }) && before.look == now.look;
        if !inactive || reactivated {
            continue;
        }
        let words = (now.base()..now.base() + now.desc.size).step_by(8);
        let changed = words.clone().find(|at| previous.u64(*at) != look.current.u64(*at));
        if let Some(at) = changed {
            let (was, is) = (previous.u64(at), look.current.u64(at));
            findings.push(finding(
                "I14",
                at,
                now.name(),
                format!("{was:#x}, as before"),
                format!("{is:#x}"),
            ));
        }
    }
    findings.into()
}
