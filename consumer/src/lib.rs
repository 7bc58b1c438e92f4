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
//! A region in a sealed memfd cannot shrink, and if all of its memory was allocated no access to it
//! can fail. Everything else is read in a guarded mode: a plain file, and a memfd with holes. If
//! the owner truncates it while it is mapped, reads give the error [`Lost`], and no SIGBUS kills
//! the reader. This costs a system call for each read or snapshot, and a handler of SIGBUS in the
//! process, which hands on what is not its own; it is installed when the first such file is
//! attached. A thread that blocks SIGBUS is not guarded, nor is a process that replaces the
//! handler afterwards without calling it.

mod attachment;
mod block_params;
mod block_stats;
mod clock;
mod connection;
mod described;
mod error;
mod events;
mod find;
mod fleet;
mod guard;
mod intact;
mod life;
mod liveness;
mod mapped;
mod mapping;
mod privcmd;
mod read;
mod records;
mod region;
mod rfc_v3;
mod snapshot;
mod threshold;
mod wait;
mod words;

pub use attachment::{Attachment, Reattached};
pub use block_params::{BLOCK_PARAMS, BlockParam};
pub use block_stats::{BlockStats, BlockStatsError, BlockStatsV1, BlockStatsV2};
pub use clock::now;
pub use connection::{Change, Connection, Follower, Offered};
pub use described::{Described, DescribedError, Stalled};
pub use error::{AttachError, ReadError, WriterStalled};
pub use events::{Event, Events};
pub use find::{Found, find, find_daemon};
pub use fleet::{Fleet, Member};
pub use intact::Lost;
pub use liveness::{Limits, Liveness, StalledWriter};
pub use mapped::Mapped;
pub use read::{Patience, Reading, Sample};
pub use records::{Blk, Dom, Net, Vcpu};
pub use region::{Backing, Region, Status};
pub use rfc_v3::LegacyRegion;
pub use snapshot::{Fields, Snapshot, SnapshotRecord};
pub use threshold::{Threshold, ThresholdError, ThresholdEvent, ThresholdWatch, WHOLE};
pub use wait::Waited;
