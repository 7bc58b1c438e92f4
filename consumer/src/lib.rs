//! Reads the statistics of a domain from a shared-memory region.
//!
//! Attaching maps the region read-only and validates its header once. After that a read is a few
//! loads: no system call, no hypercall, no lock, and nothing the producer does can make it hang,
//! panic or return a torn value.
//!
//! ```no_run
//! use domstat_consumer::{Reading, Region};
//! use domstat_layout::latest::Runstate;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let region = Region::open("/run/domstat/web1.domstat")?;
//! for vcpu in region.vcpus() {
//!     match vcpu.read::<Runstate>()? {
//!         Reading::Active(sample) => println!("vcpu {}: ran {} ns", vcpu.index(), sample.running_ns),
//!         Reading::Inactive => println!("vcpu {} is offline", vcpu.index()),
//!         Reading::Unknown => println!("the producer does not know runstates"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Four answers
//!
//! A field is a number, not produced, saturated, or in a group that is not active:
//! [`domstat_layout::Stat`]. None of them is ever shown as zero.
//!
//! # Files that are not sealed
//!
//! A region in a sealed memfd cannot shrink. A plain file can: if its owner truncates it while it
//! is mapped, a read ends in SIGBUS. Attach to plain files of producers that you trust.

mod block_params;
mod block_stats;
mod clock;
mod described;
mod error;
mod find;
mod mapping;
mod privcmd;
mod read;
mod records;
mod region;
mod rfc_v3;
mod snapshot;
mod words;

pub use block_params::{BLOCK_PARAMS, BlockParam};
pub use block_stats::{BlockStats, BlockStatsError, BlockStatsV1, BlockStatsV2};
pub use clock::now;
pub use described::{Described, Stalled};
pub use error::{AttachError, WriterStalled};
pub use find::{Found, REGION_SUFFIX, find};
pub use read::{Patience, Reading, Sample};
pub use records::{Blk, Dom, Net, Vcpu};
pub use region::{Backing, Mapped, Region, Status};
pub use rfc_v3::LegacyRegion;
pub use snapshot::{Fields, Snapshot, SnapshotRecord};
