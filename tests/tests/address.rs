//! Whole regions at the very end of their memory, where a tool that watches addresses sees each byte
//! past it: `ci/asan.sh`.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use domstat_consumer::{Region, Snapshot};
use domstat_layout::latest::{BlkIo, Runstate};
use domstat_layout::{CopyWidth, Ns};
use domstat_producer::{Pages, RegionBuilder};
use domstat_tests::runstate;
use std::sync::Arc;

/// Zeroed words that are shared by producer and consumer.
fn words(len: usize) -> Arc<Vec<AtomicU64>> {
    Arc::new((0..len / 8).map(|_| AtomicU64::new(0)).collect())
}

#[test]
fn regions_without_a_byte_to_spare() {
    for nr_vcpus in [1, 2, 5, 33] {
        let builder = RegionBuilder::new("tight").vcpus(nr_vcpus).blks(2).nets(1).align(8);
        let len = builder.plan().unwrap().geometry().end();
        let words = words(len);
        let base = NonNull::from(words.as_slice()).cast::<u8>();
        // SAFETY: the bytes of atomics, which the owner that is passed along keeps, and which are
        // reached through atomics only.
        let pages = unsafe { Pages::new(base, len) };
        let mut created = builder.create_in(pages, &[], words.clone()).unwrap();
        for vcpu in &mut created.vcpus {
            vcpu.write(&runstate(3), Ns(3));
        }
        let _region = created.unpublished.publish().unwrap();
        for form in CopyWidth::all() {
            // SAFETY: `words` outlives the consumer; readable, aligned, reached through atomics.
            let region = unsafe { Region::from_pages(base, len) }.unwrap().with_form(form);
            assert_eq!(region.geometry().end(), len);
            let mut snapshot = Snapshot::new();
            region.snapshot(&mut snapshot);
            for vcpu in region.vcpus() {
                let read = vcpu.read::<Runstate>().unwrap();
                assert_eq!(read.active().unwrap().group, runstate(3));
                let copied = snapshot.vcpu(vcpu.index()).unwrap().vcpu_group::<Runstate>();
                assert_eq!(copied.unwrap(), read);
            }
            assert!(region.blk(1).unwrap().read::<BlkIo>().is_ok());
            assert!(region.copy_schema().is_some());
        }
    }
}

/// What a reader would do that did not check its bounds. Not part of any other run.
#[test]
#[ignore = "reads past the end on purpose, which ci/asan.sh must find"]
fn a_read_past_the_end() {
    let words = words(64);
    let base = NonNull::from(words.as_slice()).cast::<u64>();
    // SAFETY: none: the ninth of eight words, and that is what this test is for.
    std::hint::black_box(unsafe { base.as_ptr().wrapping_add(8).read_volatile() });
}
