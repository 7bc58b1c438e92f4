//! The source of libvirt against libvirt's own test driver, which needs no daemon: it keeps the contract
//! of `Observer`, and follows which domains run.

#![cfg(feature = "libvirt")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::time::Duration;

use domstat_sources::conformance::check_observer;
use domstat_sources::contract::Event;
use domstat_sources::libvirt::{LibvirtDomain, Options};

/// The domain `test` of the test driver.
const UUID: [u8; 16] = [
    0x66, 0x95, 0xeb, 0x01, 0xf6, 0xa4, 0x83, 0x04, 0x79, 0xaa, 0x97, 0xf2, 0x50, 0x2e, 0x19, 0x3f,
];

fn domain() -> LibvirtDomain {
    let options =
        Options { interval: Duration::from_millis(50), ..Options::new("test:///default") };
    LibvirtDomain { uuid: UUID, options }
}

#[test]
fn a_domain_of_the_test_driver_keeps_the_contract() {
    let report = check_observer(domain(), Duration::from_secs(2)).unwrap();
    let description = &report.descriptions[0];
    assert_eq!((description.source, description.name.as_str()), ("libvirt", "test"));
    assert_eq!(description.uuid, Some(UUID));
    assert_eq!(report.events, [Event::Published, Event::Gone]);
}

#[test]
fn a_read_only_connection_publishes_as_well() {
    let mut domain = domain();
    domain.options.read_only = true;
    let report = check_observer(domain, Duration::from_millis(500)).unwrap();
    assert_eq!(report.descriptions.len(), 1);
}

#[test]
fn pid_files_are_looked_for_where_libvirt_keeps_them() {
    let of = |uri: &str| Options::new(uri).pid_dir;
    assert_eq!(of("qemu:///system").unwrap().to_str(), Some("/run/libvirt/qemu"));
    assert_eq!(of("qemu:///system?socket=/run/x").unwrap().to_str(), Some("/run/libvirt/qemu"));
    assert_eq!(of("qemu+ssh://host/system"), None, "processes of another host");
    assert_eq!(of("test:///default"), None);
}
