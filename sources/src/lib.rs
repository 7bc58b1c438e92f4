//! Where the numbers come from: two contracts ([`contract`]), one module per source, one suite
//! ([`conformance`]) that every source passes.
//!
//! A source knows what a vCPU did; it does not know where that is written. It hands typed groups
//! ([`domstat_layout::latest`]) to sinks and never sees an offset, a magic or a sequence number.

mod cgroup;
pub mod conformance;
pub mod contract;
pub mod control;
mod host;
pub mod kvm;
#[cfg(feature = "libvirt")]
pub mod libvirt;
mod libvirt_state;
pub mod process;
pub mod qemu;
mod status;
mod thread_group;
mod threads;
mod vhost;
pub mod xen;

pub use contract::{
    ArchField, ArchGroup, Description, Devices, Optional, Progress, Running, Source, SourceError,
};

#[cfg(test)]
#[path = "../../tests/src/skip.rs"]
mod skip;
