//! A consumer reads the same values whatever the producer chose for the shape of its region.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use domstat_consumer::{Reading, Region, Snapshot};
use domstat_layout::latest::{DOM_SIZE, Identity, Memory, Runstate, VCPU_SIZE};
use domstat_layout::{Clock, Ns, Stat};
use domstat_producer::{Created, Pages, Placement, RegionBuilder};
use domstat_tests::{memory, runstate};
use proptest::prelude::*;

/// What a producer may choose.
#[derive(Clone, Debug)]
struct Shape {
    nr_vcpus: u32,
    placement: Placement,
    align: u32,
    extra_offs: u32,
    extra_stride: u32,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let packed = (3u32..14).prop_map(|shift| (Placement::Packed, 1 << shift));
    let pages = (12u32..15).prop_map(|shift| (Placement::PageGranular, 1 << shift));
    (1u32..40, prop_oneof![packed, pages], 0u32..4, 0u32..4).prop_map(
        |(nr_vcpus, (placement, align), extra_offs, extra_stride)| Shape {
            nr_vcpus,
            placement,
            align,
            extra_offs,
            extra_stride,
        },
    )
}

impl Shape {
    fn builder(&self) -> RegionBuilder {
        let up = |size: usize| u32::try_from(size).unwrap().next_multiple_of(self.align);
        RegionBuilder::new("shape")
            .domid(42)
            .uuid([7; 16])
            .clock(Clock::Monotonic)
            .vcpus(self.nr_vcpus)
            .placement(self.placement)
            .align(self.align)
            .vcpu_offs(up(DOM_SIZE) + self.extra_offs * self.align)
            .vcpu_stride(up(VCPU_SIZE) + self.extra_stride * self.align)
    }
}

/// Writes a value to every vCPU but each third, which stays offline.
fn fill(created: &mut Created) {
    created.dom.write(&memory(5), Ns(6));
    for (i, vcpu) in (0u64..).zip(&mut created.vcpus) {
        if i % 3 != 2 {
            vcpu.write(&runstate(1000 + i), Ns(i));
        }
    }
}

fn assert_reads_the_same(region: &Region, nr_vcpus: u32) {
    let identity = region.dom().read::<Identity>().unwrap().active().unwrap();
    assert_eq!(identity.domid.get(), Stat::Value(42));
    assert_eq!(identity.uuid.bytes(), Some([7; 16]));
    assert_eq!(identity.name.as_str(), Some("shape"));
    assert_eq!(identity.created_ns.get(), Stat::NotProduced);
    let sample = region.dom().read::<Memory>().unwrap().active().unwrap();
    assert_eq!((sample.group, sample.updated), (memory(5), Ns(6)));
    assert_eq!(region.dom().stat(Memory::rss_bytes).unwrap(), Stat::Value(0));
    assert_eq!(region.dom().stat(Memory::usable_bytes).unwrap(), Stat::NotProduced);
    assert_eq!(region.dom().stat(Memory::minor_faults).unwrap(), Stat::Saturated);

    let mut snapshot = Snapshot::new();
    region.snapshot(&mut snapshot);
    assert_eq!(snapshot.nr_vcpus(), nr_vcpus);
    assert_eq!(region.vcpus().len(), nr_vcpus as usize);
    for vcpu in region.vcpus() {
        let i = u64::from(vcpu.index());
        let direct = vcpu.read::<Runstate>().unwrap();
        let copied = snapshot.vcpu(vcpu.index()).unwrap().vcpu_group::<Runstate>().unwrap();
        assert_eq!(direct, copied);
        match direct {
            Reading::Active(sample) => {
                assert_eq!((sample.group, sample.updated), (runstate(1000 + i), Ns(i)));
                let blocked = vcpu.stat(Runstate::blocked_ns).unwrap();
                assert_eq!(blocked, Stat::Value(3 * (1000 + i)));
            }
            Reading::Inactive => {
                assert_eq!(i % 3, 2);
                assert_eq!(vcpu.stat(Runstate::blocked_ns).unwrap(), Stat::GroupInactive);
            }
            Reading::Unknown => panic!("both sides know runstates"),
        }
    }
    assert!(region.vcpu(nr_vcpus).is_none());
    assert!(snapshot.vcpu(nr_vcpus).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn memfd(shape in shapes()) {
        let mut created = shape.builder().create_memfd().unwrap();
        fill(&mut created);
        let region = created.unpublished.publish().unwrap();
        let fd = region.as_fd().unwrap().try_clone_to_owned().unwrap();
        assert_reads_the_same(&Region::from_fd(fd).unwrap(), shape.nr_vcpus);
    }

    #[test]
    fn frames_of_their_own(shape in shapes()) {
        let shape = Shape {
            placement: Placement::PageGranular,
            align: shape.align.max(4096),
            ..shape
        };
        let mut created = shape.builder().create_memfd_frames().unwrap();
        fill(&mut created);
        let region = created.unpublished.publish().unwrap();
        let fds = region.frame_fds();
        let consumer = Region::from_frames(fds[0], &fds[1..]).unwrap();
        assert_reads_the_same(&consumer, shape.nr_vcpus);
    }

    #[test]
    #[allow(unsafe_code)]
    fn pages_of_the_caller(shape in shapes()) {
        let plan = shape.builder().plan().unwrap();
        let words: Arc<Vec<AtomicU64>> =
            Arc::new((0..plan.total_len() / 8).map(|_| AtomicU64::new(u64::MAX)).collect());
        let base = NonNull::from(words.as_slice()).cast::<u8>();
        // SAFETY: the words are atomics, aligned to 8, and kept alive by the owner that is
        // passed along; nothing else reaches them.
        let pages = unsafe { Pages::new(base, plan.total_len()) };
        let owner = Arc::clone(&words);
        let mut created = shape.builder().create_in(pages, &[], owner).unwrap();
        fill(&mut created);
        let region = created.unpublished.publish().unwrap();
        // SAFETY: `words` outlives the consumer, which is dropped at the end of this block.
        let consumer = unsafe { Region::from_pages(base, plan.total_len()) }.unwrap();
        assert_reads_the_same(&consumer, shape.nr_vcpus);
        drop(region);
    }
}

#[test]
fn a_consumer_of_fewer_groups_is_told_that_the_others_are_unknown() {
    // A producer whose dom record ends after the identity group: smaller sizes, fewer groups.
    let created = RegionBuilder::new("old").create_memfd().unwrap();
    let region = created.unpublished.publish().unwrap();
    let file = std::fs::File::from(region.as_fd().unwrap().try_clone_to_owned().unwrap());
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut &file, &mut bytes).unwrap();
    bytes[4..8].copy_from_slice(&304u32.to_le_bytes());
    bytes[24..32].copy_from_slice(&3u64.to_le_bytes());
    let old = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(old.path(), &bytes).unwrap();
    let consumer = Region::open(old.path()).unwrap();
    assert!(matches!(consumer.dom().read::<Identity>().unwrap(), Reading::Active(_)));
    assert_eq!(consumer.dom().read::<Memory>().unwrap(), Reading::Unknown);
    assert_eq!(consumer.dom().stat(Memory::rss_bytes).unwrap(), Stat::GroupInactive);
}

#[test]
fn no_more_frames_are_mapped_than_leave_mappings_for_others() {
    use domstat_layout::header::dom;
    use std::os::unix::fs::FileExt;
    let builder = RegionBuilder::new("p").placement(Placement::PageGranular).align(4096);
    let created = builder.create_memfd_frames().unwrap();
    let region = created.unpublished.publish().unwrap();
    let file = std::fs::File::from(region.frame_fds()[0].try_clone_to_owned().unwrap());
    let mut first = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut first, 0).unwrap();
    first[dom::NR_VCPUS..dom::NR_VCPUS + 4].copy_from_slice(&40_000u32.to_le_bytes());
    // The schema's frame comes after those of the vCPUs, and is of no interest here.
    first[dom::SCHEMA_OFFS..dom::SCHEMA_OFFS + 8].fill(0);
    let alleged = tempfile::tempfile().unwrap();
    alleged.write_all_at(&first, 0).unwrap();
    let frames = vec![region.frame_fds()[1]; 40_000];
    let Err(error) = Region::from_frames(&alleged, &frames) else { panic!("all were mapped") };
    let domstat_consumer::AttachError::TooManyFrames { found, most } = error else {
        panic!("{error}");
    };
    assert!(found == 40_000 && most < found, "{found} {most}");
}

/// A region of revision 4 with `nr` vCPU records of `size` bytes, whose active groups are all in
/// mid-update.
fn short_records(size: usize, nr: u32) -> tempfile::NamedTempFile {
    use domstat_layout::header::{VCPU_MAGIC, dom, record};
    let mut created = RegionBuilder::new("p").vcpus(1).create_memfd().unwrap();
    created.vcpus[0].write(&runstate(1), Ns(1));
    let region = created.unpublished.publish().unwrap();
    let file = std::fs::File::from(region.as_fd().unwrap().try_clone_to_owned().unwrap());
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
    let start = bytes.len().next_multiple_of(64);
    bytes.resize(start + size * nr as usize, 0);
    let put = |bytes: &mut Vec<u8>, at: usize, word: u32| {
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    };
    let word = |n: usize| u32::try_from(n).unwrap();
    bytes[dom::SCHEMA_OFFS..dom::SCHEMA_OFFS + 8].fill(0);
    for (at, value) in [
        (dom::ALIGN, 8),
        (dom::VCPU_OFFS, word(start)),
        (dom::VCPU_SIZE, word(size)),
        (dom::VCPU_STRIDE, word(size)),
        (dom::NR_VCPUS, nr),
    ] {
        put(&mut bytes, at, value);
    }
    for index in 0..nr {
        let at = start + size * index as usize;
        put(&mut bytes, at + record::MAGIC, VCPU_MAGIC);
        put(&mut bytes, at + record::INDEX, index);
        put(&mut bytes, at + record::STATS_ACTIVE, u32::MAX);
        for desc in domstat_layout::latest::VCPU_GROUPS.iter().filter(|g| g.end() <= size) {
            put(&mut bytes, at + desc.offset, 3);
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    file
}

#[test]
fn a_snapshot_of_short_records_takes_a_stated_multiple_of_the_region() {
    use domstat_layout::Group as _;
    let runstate = Runstate::DESC.end();
    let lengths = [domstat_layout::header::RECORD_HEADER_LEN, runstate, VCPU_SIZE];
    for (size, nr) in lengths.map(|size| (size, 20_000)) {
        let file = short_records(size, nr);
        let region = Region::open(file.path()).unwrap();
        let mut snapshot = Snapshot::new();
        region.snapshot(&mut snapshot);
        let (len, memory) = (file.as_file().metadata().unwrap().len(), snapshot.memory() as u64);
        println!("records of {size} bytes, region of {len}: {memory}");
        assert!(memory <= Snapshot::MAX_MULTIPLE as u64 * len, "{size}: {memory} of {len}");
        for index in [0, nr - 1] {
            let read = snapshot.vcpu(index).unwrap().vcpu_group::<Runstate>();
            if size < runstate {
                assert_eq!(read, Ok(Reading::Unknown), "its bit says more than the record has");
            } else {
                let error = read.unwrap_err();
                assert_eq!(error.stalled().map(|s| (s.index, s.seq)), Some((Some(index), 3)));
            }
        }
        assert!(snapshot.vcpu(nr).is_none());
    }
}
