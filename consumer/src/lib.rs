//! Reader of the statistics of domains in shared memory.
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
//! | for | start at |
//! |---|---|
//! | one region | [`Region`] and its records [`Dom`], [`Vcpu`], [`Blk`], [`Net`] |
//! | distributions; shares of a device | [`VcpuHist`], [`BlkHist`]; [`BlkQueue`], [`NetQueue`] |
//! | all groups of a domain at once | [`Snapshot`] |
//! | whether the producer lives, and reattaching | [`Attachment`], [`Liveness`] |
//! | all domains of a host | [`fleet`] |
//! | devices that several queues serve | [`Region::shares`] |
//! | shares of vCPU time, and other rates | [`rates`] |
//! | means and percentiles of an interval | [`distribution`] |
//! | the status of a domain in words | [`domain_status`] |
//! | waiting for events, write thresholds | [`watch`] |
//! | regions from a daemon's socket | [`handover`] |
//! | groups that this build does not know | [`schema`] |
//! | libvirt's block statistics; Xen's RFC v3 | [`libvirt`]; [`legacy`] |
//!
//! # Four answers
//!
//! A field is a number, not produced, saturated, or in a group that is not active:
//! [`domstat_layout::Stat`]. None of them is ever shown as zero.
//!
//! # Files that are not sealed
//!
//! A region in a sealed memfd cannot shrink, and if all of its memory was allocated no access to it
//! can fail. Everything else is read in a guarded mode: a plain file, a memfd with holes, and one
//! that can grow. If the owner truncates it while it is mapped, reads give the error
//! [`Truncated`](attach::Truncated), and no SIGBUS kills the reader. This costs a system call for
//! each read or snapshot, and a handler of SIGBUS in the process, which passes on signals of other
//! origin; it is installed when the first such file is attached. A thread that blocks SIGBUS is not guarded, nor is a process that replaces the
//! handler afterwards without calling it.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod attach;
pub mod clock;
pub mod distribution;
pub mod domain_status;
pub mod error;
pub mod fleet;
pub mod handover;
pub mod legacy;
pub mod libvirt;
pub mod rates;
pub mod read;
pub mod region;
pub mod schema;
pub mod watch;

pub use attach::{Attachment, Liveness};
pub use error::{AttachError, ReadError};
pub use read::{
    Blk, BlkHist, BlkQueue, Dom, Fields, Net, NetQueue, Patience, Reading, Sample, Shares,
    Snapshot, SnapshotRecord, Vcpu, VcpuHist,
};
pub use region::{Backing, Region, Status};
