//! Where the numbers come from: two contracts ([`contract`]), one module per source, one suite
//! ([`conformance`]) that every source passes.
//!
//! A source knows what a vCPU did; it does not know where that is written. It hands typed groups
//! ([`domstat_layout::latest`]) to sinks and never sees an offset, a magic or a sequence number.

// What several sources share is not all used by each.
#![cfg_attr(
    not(all(feature = "kvm", feature = "process", feature = "qemu", feature = "xen")),
    allow(dead_code, unused_imports)
)]

#[cfg(any(feature = "kvm", feature = "process"))]
mod cgroup;
pub mod conformance;
pub mod contract;
pub mod control;
mod host;
#[cfg(feature = "kvm")]
pub mod kvm;
#[cfg(feature = "libvirt")]
pub mod libvirt;
#[cfg(any(feature = "qemu", feature = "xen"))]
mod libvirt_state;
#[cfg(feature = "process")]
pub mod process;
#[cfg(feature = "qemu")]
pub mod qemu;
mod status;
#[cfg(any(feature = "kvm", feature = "process"))]
mod thread_group;
#[cfg(any(feature = "kvm", feature = "process"))]
mod threads;
#[cfg(any(feature = "kvm", feature = "process"))]
mod vhost;
#[cfg(feature = "xen")]
pub mod xen;

pub use contract::{
    ArchField, ArchGroup, Description, Devices, Optional, Progress, Running, Source, SourceError,
};

#[cfg(test)]
#[path = "../../tests/src/skip.rs"]
mod skip;
