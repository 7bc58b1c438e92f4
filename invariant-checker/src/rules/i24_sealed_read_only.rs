//! Read-only memory that cannot shrink. The rule does not only look the seals up: it tries to map the
//! memory writable, through the descriptor and by opening it again, and both must fail.

use super::{Look, RuleCheck, finding};
use crate::Outcome;
use domstat_layout::Rule;
use memmap2::MmapOptions;
use rustix::fs::SealFlags;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I24, source: "xen-devel review", requires: &[Rule::I01], check };

fn check(look: &Look<'_>) -> Outcome {
    let Some(file) = look.subject.file else {
        return Outcome::NotCheckable("the file of the pages is not known".to_owned());
    };
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = std::fs::read_link(&path).map(|p| p.to_string_lossy().into_owned());
    if !link.is_ok_and(|name| name.starts_with("/memfd:")) {
        return Outcome::NotCheckable(
            "a plain file has no seals: its owner can truncate it (the memfd that is used without \
             --file cannot be truncated)"
                .to_owned(),
        );
    }
    let seals = rustix::fs::fcntl_get_seals(file).unwrap_or(SealFlags::empty());
    let wanted = SealFlags::SHRINK | SealFlags::FUTURE_WRITE;
    let mut findings = Vec::new();
    // A seal against all writing serves as well as one against future mappings.
    let writes = seals.intersects(SealFlags::FUTURE_WRITE | SealFlags::WRITE);
    if !writes || !seals.contains(SealFlags::SHRINK) {
        let expected = format!("{wanted:?}");
        findings.push(finding(RULE.rule, 0, "seals of the memfd", expected, format!("{seals:?}")));
    } else if writable(file, &path) {
        let found = "it was mapped writable";
        findings.push(finding(RULE.rule, 0, "mapping", "no way to map it writable", found));
    }
    findings.into()
}

/// Whether the memory can be mapped writable through the descriptor, or by opening it again.
fn writable(file: BorrowedFd<'_>, path: &str) -> bool {
    let map = |file: &File| MmapOptions::new().map_raw(file).is_ok();
    let ours = file.try_clone_to_owned().is_ok_and(|fd| map(&File::from(fd)));
    let reopened = File::options().read(true).write(true).open(path).is_ok_and(|f| map(&f));
    ours || reopened
}
