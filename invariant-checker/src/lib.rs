//! Checker of the domain-stats ABI's rules, for a region in a file or one that a producer is
//! writing at this moment. A look can refute a rule; no number of looks proves one.
//!
//! Each rule is one file under `rules/`, with one corrupt fixture ([`fixtures`]) that trips it and
//! only it. A rule passes, fails, or cannot be checked here, and then says why; a failure names
//! the rule, the byte offset, what was expected and what was found.
//!
//! [`check`] takes one look; [`watch_steps`] looks again and again, which the rules about change over
//! time need.
//!
//! ```no_run
//! use domstat_consumer::region::MappedFile;
//! use domstat_invariant_checker::{Options, Subject, check};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mapped = MappedFile::open("/run/domstat/web1.domstat")?;
//! let report = check(&Subject::new(mapped.mem()).with_file(mapped.file()), &Options::default())?;
//! print!("{report}");
//! # Ok(())
//! # }
//! ```

mod books;
mod capture;
pub mod fixtures;
mod report;
pub mod rfc_v3;
mod rules;
mod run;
mod subject;

pub use books::{Books, ThreadTime};
pub use capture::{Capture, GroupCopy, GroupLook, RecordAt, WholeGroup};
pub use report::{Finding, Outcome, Report, RuleReport, Verdict};
pub use rules::{Look, RULES, RuleCheck};
pub use run::{NotAttachable, Options, check, watch_steps};
pub use subject::{FrameId, Subject};
