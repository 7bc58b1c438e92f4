//! Publishes the statistics of one domain in a shared-memory region.
//!
//! A [`RegionBuilder`] creates the region and hands out one [`DomWriter`] and one [`VcpuWriter`]
//! per vCPU. Each writer is `Send` and owns its record alone, so that every vCPU's thread writes
//! without a lock. Writing a group is wait-free and makes neither a system call nor an allocation.
//!
//! ```
//! use domstat_layout::latest::{Runstate, RunState};
//! use domstat_layout::{Clock, Ns, Word};
//! use domstat_producer::RegionBuilder;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // 1. Create: nothing is visible yet.
//! let mut created =
//!     RegionBuilder::new("web1").domid(7).vcpus(2).clock(Clock::Monotonic).create_memfd()?;
//! let now = Ns(1_000_000); // whatever your clock says
//! for vcpu in &mut created.vcpus {
//!     let runstate = Runstate {
//!         state: RunState::Running.into(),
//!         state_entry_ns: Word::from(now.0),
//!         running_ns: Word::from(0),
//!         runnable_ns: Word::from(0),
//!         blocked_ns: Word::from(0),
//!         offline_ns: Word::from(0),
//!     };
//!     vcpu.write(&runstate, now);
//! }
//! // 2. Publish: from here on consumers may map it.
//! let region = created.unpublished.publish()?;
//! // 3. Each vCPU's thread owns its writer.
//! for mut vcpu in created.vcpus {
//!     std::thread::spawn(move || vcpu.set(Runstate::running_ns, 5_000, Ns(1_005_000)));
//! }
//! // 4. The domain has ended.
//! region.retire();
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! All are on by default. Without any, this crate and what it needs are 6 crates and the 5 that run in
//! the compiler: `default-features = false`.
//!
//! | feature | for | crates |
//! |---|---|---|
//! | `file` | `RegionBuilder::create_file` | domstat-sigbus, libc, tempfile |
//! | `server` | `Server`, `listen_at` | nix, thiserror |
//! | `systemd` | the module `systemd` | sd-notify |
//! | `thread-clock` | [`ThreadTimes`] where `/proc` is missing | nix |

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod announce;
mod arch;
mod builder;
mod clock;
mod counters;
mod default_dir;
mod dir_lock;
mod error;
mod frame;
mod memfd;
mod monotonic;
mod pieces;
mod plan;
mod predecessor;
mod published;
mod record;
mod region;
#[cfg(feature = "file")]
mod region_file;
mod runstate;
mod sampler;
mod schema_writer;
#[cfg(feature = "server")]
mod serve;
mod slots;
#[cfg(feature = "systemd")]
pub mod systemd;
mod thread_times;
mod writer;

pub use announce::{Announcement, remove_stale_entries};
pub use builder::{Created, RegionBuilder};
pub use clock::now;
pub use counters::{BlkCounters, NetCounters, NetDirection};
pub use default_dir::default_dir;
pub use error::{
    AnnounceError, CreateError, FrameError, HandOverError, PlanError, RegionTruncated,
};
pub use frame::Frame;
pub use monotonic::MonotonicSink;
pub use pieces::Pages;
pub use plan::{Placement, Plan};
pub use published::{PublishError, Published};
pub use region::{Region, Retirer, Unpublished};
pub use runstate::RunstateTracker;
pub use sampler::Sampler;
#[cfg(feature = "server")]
pub use serve::{Peer, ServeError, Served, Server, ServerBuilder, SocketFile, listen_at};
pub use slots::{Claim, ClaimError, SlotWriter, Slots};
pub use thread_times::{KvmExits, ThreadSample, ThreadTimes};
pub use writer::{BlkDevice, BlkOp, Request, RequestRecords, RequestTracker};
pub use writer::{
    BlkHistWriter, BlkQueueWriter, BlkWriter, DomWriter, NetQueueWriter, NetWriter, VcpuHistWriter,
    VcpuWriter,
};
pub use writer::{FrameWriters, GroupWriter};
