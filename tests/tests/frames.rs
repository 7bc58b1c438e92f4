//! Records of a region that other processes write: frames, handed over, taken back and handed over again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use domstat_consumer::{Patience, ReadError, Reading, Region};
use domstat_invariant_checker::{Options, Subject, watch_steps};
use domstat_layout::frame::{HEAD_LEN, SCHEMA_AT};
use domstat_layout::geometry::{FrameError as CutError, FramePart};
use domstat_layout::header::record;
use domstat_layout::histogram::HistogramGroup;
use domstat_layout::latest::{
    BlkIo, BlkIoTimes, BlkQueueIo, BlkQueueOf, Cpu, Exits, NetIo, NetQueueIo, NetQueueOf,
    RdLatency, Runstate, Wait,
};
use domstat_layout::schema::{FieldShape, FieldSpec, GroupSpec};
use domstat_layout::{Clock, Group, Ns, RecordKind, Share, Word};
use domstat_producer::{
    BlkHistWriter, BlkQueueWriter, BlkWriter, CreateError, Created, DomWriter, Frame, FrameError,
    FrameWriters, HandOverError, NetQueueWriter, NetWriter, Placement, RegionBuilder,
    VcpuHistWriter, VcpuWriter,
};
use domstat_tests::runstate;
use proptest::prelude::*;
use rustix::fs::{FallocateFlags, SealFlags};

const NUMBER: FieldSpec<'_> = FieldSpec { name: "number", shape: FieldShape::PLAIN };

fn builder() -> RegionBuilder {
    let own = [GroupSpec { name: "own", fields: &[NUMBER, NUMBER] }];
    RegionBuilder::new("framed")
        .clock(Clock::Monotonic)
        .vcpus(3)
        .blks(2)
        .nets(2)
        .vcpu_histograms(true)
        .blk_histograms(true)
        .blk_queues(4)
        .net_queues(2)
        .labels([("tenant", "acme")])
        .unwrap()
        .arch_dom(&own)
        .unwrap()
        .arch_vcpu(&own)
        .unwrap()
        .arch_blk(&own)
        .unwrap()
        .arch_net(&own)
        .unwrap()
}

fn created() -> Created {
    let mut created = builder().create_memfd_frames().unwrap();
    for vcpu in &mut created.vcpus {
        vcpu.write(&runstate(0), now());
    }
    created
}

fn now() -> Ns {
    domstat_producer::now(Clock::Monotonic).unwrap()
}

/// As the other process does it.
fn elsewhere<W: FrameWriters>(frame: Frame) -> W {
    let (fd, description) = frame.into_parts();
    W::from_frame(fd, &description).unwrap()
}

fn attach(region: &domstat_producer::Region) -> Region {
    let fds = region.frame_fds();
    let region = Region::from_frames(fds[0], &fds[1..]).unwrap();
    region.set_patience(Patience { spins: 8, yielding: Duration::from_millis(1) });
    region
}

fn io(n: u64) -> BlkIo {
    BlkIo { rd_req: n.into(), rd_bytes: (512 * n).into(), ..BlkIo::NOT_PRODUCED }
}

fn of(device: u64, queue: u64) -> BlkQueueOf {
    let pid = Word::NOT_PRODUCED;
    BlkQueueOf { device: device.into(), generation: 0.into(), queue: queue.into(), pid }
}

fn share(n: u64) -> BlkQueueIo {
    BlkQueueIo::share(io(n))
}

/// Reads that a share says it served.
fn served(region: &Region, share: u32) -> Option<u64> {
    let io = region.blk_queue(share).unwrap().read::<BlkQueueIo>().unwrap();
    io.active()?.0.rd_req.value()
}

#[test]
fn every_record_is_written_by_another_mapping() {
    let Created {
        mut unpublished,
        dom,
        mut vcpus,
        vcpu_hists,
        blks,
        blk_hists,
        mut nets,
        mut blk_queues,
        net_queues,
        ..
    } = created();
    let mut dom: DomWriter = elsewhere(unpublished.hand_over(dom).unwrap());
    let vcpu = vcpus.remove(1);
    let hist = vcpu_hists.into_iter().nth(1).unwrap();
    let (mut vcpu, mut wait): (VcpuWriter, VcpuHistWriter) =
        elsewhere(unpublished.hand_over((vcpu, hist)).unwrap());
    let pair = blks.into_iter().zip(blk_hists).nth(1).unwrap();
    let (mut blk, mut latency): (BlkWriter, BlkHistWriter) =
        elsewhere(unpublished.hand_over(pair).unwrap());
    let mut net: NetWriter = elsewhere(unpublished.hand_over(nets.remove(0)).unwrap());
    blk_queues[3].write(&of(1, 3), now());
    let mut queue: BlkQueueWriter = elsewhere(unpublished.hand_over(blk_queues.remove(3)).unwrap());
    let net_queue = net_queues.into_iter().nth(1).unwrap();
    let mut net_queue: NetQueueWriter = elsewhere(unpublished.hand_over(net_queue).unwrap());

    dom.write(&Cpu { time_ns: 5.into(), ..Cpu::NOT_PRODUCED }, now());
    assert!(dom.write_arch(0, &[1.into(), 2.into()], now()));
    assert!(!dom.write_arch(0, &[1.into()], now()) && !dom.write_arch(1, &[1.into()], now()));
    // What was written before it was handed over is there, and goes on.
    vcpu.set(Runstate::running_ns, 77, now());
    vcpu.write(&Exits { exits: 9.into(), ..Exits::NOT_PRODUCED }, now());
    assert!(vcpu.write_arch(0, &[3.into(), 4.into()], now()));
    let mut waits = Wait::EMPTY;
    waits.record(1000);
    wait.write(&waits, now());
    blk.write(&io(10), now());
    assert!(blk.write_arch(0, &[5.into(), 6.into()], now()));
    let mut reads = RdLatency::EMPTY;
    reads.record(700);
    latency.write(&reads, now());
    net.write(&NetIo { rx_bytes: 11.into(), ..NetIo::NOT_PRODUCED }, now());
    assert!(net.write_arch(0, &[7.into(), 8.into()], now()));
    queue.write(&share(20), now());
    let of = NetQueueOf { device: 0.into(), generation: 0.into(), ..NetQueueOf::NOT_PRODUCED };
    net_queue.write(&of, now());
    net_queue.write(&NetQueueIo::share(NetIo { tx_bytes: 3.into(), ..NetIo::NOT_PRODUCED }), now());

    let published = unpublished.publish().unwrap();
    let region = attach(&published);
    let active = |reading: Reading<_>| reading.active().unwrap();
    assert_eq!(region.dom().read::<Cpu>().unwrap().active().unwrap().time_ns.value(), Some(5));
    let read = region.vcpu(1).unwrap();
    assert_eq!(active(read.read::<Runstate>().unwrap()).running_ns.value(), Some(77));
    assert_eq!(read.read::<Exits>().unwrap().active().unwrap().exits.value(), Some(9));
    let wait = region.vcpu_hist(1).unwrap().read::<Wait>().unwrap().active().unwrap();
    assert_eq!(wait.max().value(), Some(1000));
    let read = region.blk(1).unwrap().read::<BlkIo>().unwrap().active().unwrap();
    assert_eq!(read.rd_req.value(), Some(10));
    let latency = region.blk_hist(1).unwrap().read::<RdLatency>().unwrap().active().unwrap();
    assert_eq!(latency.sum().value(), Some(700));
    let net = region.net(0).unwrap().read::<NetIo>().unwrap().active().unwrap();
    assert_eq!(net.rx_bytes.value(), Some(11));
    let queue_io = region.blk_queue(3).unwrap().read::<BlkQueueIo>().unwrap().active().unwrap();
    assert_eq!(queue_io.0.rd_req.value(), Some(20));
    // The writers elsewhere go on after the seal, and renew what is theirs.
    queue.write(&share(21), now());
    assert_eq!(served(&region, 3), Some(21));
    assert!(queue.renew());
    assert_eq!((queue.generation(), blk.generation()), (1, 0));
    queue.write(&of_one(), now());
    let report =
        watch_steps(&Subject::new(region.mem()), &Options::default(), |looks| looks < 3).unwrap();
    assert!(report.passed(), "{report}");
}

fn of_one() -> BlkQueueOf {
    of(1, 0)
}

#[test]
fn what_cannot_be_cut_is_refused() {
    for placement in [Placement::Packed, Placement::PageGranular] {
        let mut created = builder().placement(placement).create_memfd().unwrap();
        let refused = created.unpublished.hand_over(created.nets.remove(0)).unwrap_err();
        assert!(matches!(refused, HandOverError::NotInFrames), "{refused}");
        assert!(refused.to_string().contains("create_memfd_frames"));
    }
    let packed = builder().plan().unwrap().geometry();
    let error = packed.frames(4096).unwrap_err();
    assert!(matches!(error, CutError::Packed { kind: RecordKind::Vcpu, .. }), "{error}");
}

#[test]
fn frames_are_whole_pages_side_by_side() {
    let plan = builder().placement(Placement::PageGranular).plan().unwrap();
    let g = plan.geometry();
    let frames: Vec<_> = g.frames(4096).unwrap().collect();
    let mut at = 0;
    for frame in &frames {
        assert_eq!((frame.offs, frame.len % 4096), (at, 0));
        at += frame.len;
    }
    assert_eq!(at, plan.total_len());
    assert_eq!(frames.len(), 1 + 3 + 2 + 2 + 4 + 2 + 1);
    assert_eq!(frames.last().unwrap().part, FramePart::Schema);
    for kind in RecordKind::ALL {
        for index in 0..g.array(kind).nr {
            let frame = g.frame_of(kind, index, 4096).unwrap().unwrap();
            let (offs, size) = (g.array(kind).offset(index).unwrap(), g.array(kind).size);
            assert!(frame.offs <= offs && offs + size <= frame.offs + frame.len, "{}", kind.name());
            assert!(frames.contains(&frame));
        }
        assert_eq!(g.frame_of(kind, g.array(kind).nr, 4096).unwrap(), None);
    }
}

#[test]
fn frames_as_earlier_producers_cut_them_are_mapped() {
    let mut created = created();
    created.blk_queues[3].write(&share(8), now());
    let published = created.unpublished.publish().unwrap();
    let fds = published.frame_fds();
    let rest = tempfile::tempfile().unwrap();
    let mut at = 0;
    for fd in &fds[4..] {
        let file = File::from(fd.try_clone_to_owned().unwrap());
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        rest.write_all_at(&bytes, at).unwrap();
        at += bytes.len() as u64;
    }
    let vcpus = &fds[1..4];
    let earlier: Vec<_> = vcpus.iter().copied().chain([rest.as_fd()]).collect();
    let region = Region::from_frames(fds[0], &earlier).unwrap();
    assert_eq!(served(&region, 3), Some(8));
    // One frame more or fewer than the region has, or frames in another order.
    for wrong in [&fds[1..fds.len() - 1], &fds[2..], &fds[1..3]] {
        assert!(Region::from_frames(fds[0], wrong).is_err());
    }
}

#[test]
fn a_record_goes_with_its_distributions_and_all_of_its_groups() {
    let mut created = created();
    let vcpu = created.vcpus.remove(0);
    let refused = created.unpublished.hand_over(vcpu).unwrap_err();
    assert!(
        matches!(refused, HandOverError::Shared { with: RecordKind::VcpuHist, .. }),
        "{refused}"
    );
    let exits = created.nets[0].take::<NetIo>().unwrap();
    let refused = created.unpublished.hand_over(created.nets.remove(0)).unwrap_err();
    assert!(matches!(refused, HandOverError::GroupTaken { .. }), "{refused}");
    drop(exits);
    let mixed = (created.blks.remove(0), created.blk_hists.remove(1));
    let refused = created.unpublished.hand_over(mixed).unwrap_err();
    assert!(matches!(refused, HandOverError::GroupTaken { .. }), "{refused}");
    let not = created.unpublished.take_back::<NetWriter>(0).map(|_| ()).unwrap_err();
    assert!(matches!(not, HandOverError::NotHandedOut { .. }), "{not}");
    let none = created.unpublished.take_back::<NetWriter>(7).map(|_| ()).unwrap_err();
    assert!(matches!(none, HandOverError::NoSuchFrame { .. }), "{none}");
}

#[test]
fn a_frame_is_refused_that_is_not_what_its_description_says() {
    let mut created = created();
    let (fd, description) =
        created.unpublished.hand_over(created.nets.remove(0)).unwrap().into_parts();
    let other = |fd: &OwnedFd, bytes: &[u8]| BlkWriter::from_frame(fd, bytes).map(|_| ());
    let error = other(&fd, &description).unwrap_err();
    assert!(matches!(error, FrameError::OtherRecord { found: RecordKind::Net, .. }), "{error}");
    let net = |fd: &dyn AsFdDyn, bytes: &[u8]| NetWriter::from_frame(fd.fd(), bytes).map(|_| ());
    // Another interface's frame, a file, memory that can shrink, and less of it.
    let (second, _) = created.unpublished.hand_over(created.nets.remove(0)).unwrap().into_parts();
    let error = net(&second, &description).unwrap_err();
    assert!(matches!(error, FrameError::Record { field: "index", found: 1, .. }), "{error}");
    let file = tempfile::tempfile().unwrap();
    let memory = |seals| {
        let flags = rustix::fs::MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("frame", flags).unwrap();
        rustix::fs::ftruncate(&fd, 4096).unwrap();
        rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
        fd
    };
    assert!(matches!(net(&file, &description), Err(FrameError::NotMemory)));
    assert!(matches!(net(&memory(SealFlags::GROW), &description), Err(FrameError::NotMemory)));
    let holes = memory(SealFlags::SHRINK | SealFlags::GROW);
    assert!(matches!(net(&holes, &description), Err(FrameError::NotAllocated)));
    let long = memory(SealFlags::SHRINK);
    rustix::fs::ftruncate(&long, 8192).unwrap();
    assert!(matches!(net(&long, &description), Err(FrameError::Length { found: 8192, .. })));
    let published = created.unpublished.publish().unwrap();
    let error = net(&fd, &description).unwrap_err();
    assert!(matches!(error, FrameError::Sealed), "{error}");
    drop(published);
}

trait AsFdDyn {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
}
impl<T: AsFd> AsFdDyn for T {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}

#[test]
fn a_process_harms_no_more_than_its_own_frame() {
    let mut created = created();
    let blk = (created.blks.remove(0), created.blk_hists.remove(0));
    let (fd, _) = created.unpublished.hand_over(blk).unwrap().into_parts();
    // It cannot take memory away from under the others.
    assert!(rustix::fs::ftruncate(&fd, 0).is_err() && rustix::fs::ftruncate(&fd, 1 << 20).is_err());
    assert_eq!(rustix::fs::fstat(&fd).unwrap().st_size, 4096);
    assert!(rustix::fs::fcntl_add_seals(&fd, SealFlags::WRITE).is_err(), "it is mapped");
    // A hole is filled before consumers would find it, and its mode is nobody's concern.
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let header = [0u8; 64];
    let file = File::from(fd);
    let mut before = header;
    file.read_exact_at(&mut before, 0).unwrap();
    rustix::fs::fallocate(&file, hole, 0, 4096).unwrap();
    file.write_all_at(&before, 0).unwrap();
    rustix::fs::fallocate(&file, hole, 2048, 2048).unwrap();
    rustix::fs::fchmod(&file, rustix::fs::Mode::empty()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let server = domstat_producer::Server::builder().bind(dir.path().join("s")).unwrap();
    let published = created.unpublished.publish().unwrap();
    let _served = server.serve(&published, "web1").unwrap();
    let connection = domstat_consumer::handover::Connection::connect(dir.path().join("s")).unwrap();
    let region = connection.attach("web1").unwrap();
    assert!(matches!(region.vcpu(0).unwrap().read::<Runstate>(), Ok(Reading::Active(_))));
}

#[test]
fn a_frame_that_cannot_be_published_is_named() {
    for harm in ["seal", "header"] {
        let mut created = created();
        let queue = created.blk_queues.remove(2);
        let (fd, _) = created.unpublished.hand_over(queue).unwrap().into_parts();
        if harm == "seal" {
            rustix::fs::fcntl_add_seals(&fd, SealFlags::SEAL).unwrap();
        } else {
            File::from(fd).write_all_at(&[9; 4], record::INDEX as u64).unwrap();
        }
        let error = created.unpublished.publish().map(|_| ()).unwrap_err();
        assert!(matches!(error, CreateError::Frame { .. }), "{error}");
        assert!(error.to_string().starts_with("the frame of blk_queue 2 cannot be"), "{error}");
    }
}

/// The frame's bytes as a killed process leaves them.
fn kill_in(fd: &File, group: &domstat_layout::GroupDesc, change: impl FnOnce(&mut [u8])) {
    let mut bytes = vec![0; group.size];
    fd.read_exact_at(&mut bytes, group.offset as u64).unwrap();
    bytes[0] = bytes[0].wrapping_add(1) | 1;
    change(&mut bytes);
    fd.write_all_at(&bytes, group.offset as u64).unwrap();
}

#[test]
fn what_a_killed_process_left_is_made_whole() {
    let mut created = created();
    let pair = (created.blks.remove(0), created.blk_hists.remove(0));
    let frame = created.unpublished.hand_over(pair).unwrap();
    let file = File::from(frame.as_fd().try_clone_to_owned().unwrap());
    let (mut blk, hist): (BlkWriter, BlkHistWriter) = elsewhere(frame);
    blk.write(&io(10), Ns(100));
    let times = BlkIoTimes { rd_total_ns: 5.into(), ..BlkIoTimes::NOT_PRODUCED };
    blk.write(&times, Ns(100));
    assert!(blk.write_arch(0, &[1.into(), 2.into()], Ns(100)));
    drop((blk, hist));
    // In the first copy of a group with a twin; in a group without; before the first write of another ended.
    kill_in(&file, BlkIo::DESC, |bytes| bytes[16..24].fill(0xEE));
    kill_in(&file, BlkIoTimes::DESC, |bytes| bytes[16..24].copy_from_slice(&6u64.to_le_bytes()));
    let discards = domstat_layout::latest::BlkDiscards::DESC;
    kill_in(&file, discards, |bytes| bytes[0] = 3);
    let active = record::STATS_ACTIVE as u64;
    let mut bits = [0; 8];
    file.read_exact_at(&mut bits, active).unwrap();
    let bits = u64::from_le_bytes(bits) | discards.mask();
    file.write_all_at(&bits.to_le_bytes(), active).unwrap();
    // And its header, out of spite.
    file.write_all_at(&[1; 4], record::INDEX as u64).unwrap();

    let (mut blk, hist) = created.unpublished.take_back::<(BlkWriter, BlkHistWriter)>(0).unwrap();
    let published = created.unpublished.publish().unwrap();
    let region = attach(&published);
    let read = region.blk(0).unwrap();
    let found = read.read::<BlkIo>().unwrap().active().unwrap();
    assert_eq!((found.rd_req.value(), found.updated, found.seq % 2), (Some(10), Ns(100), 0));
    let found = read.read::<BlkIoTimes>().unwrap().active().unwrap();
    assert_eq!(found.rd_total_ns.value(), Some(6), "a counter, before or after the write");
    let never = read.read::<domstat_layout::latest::BlkDiscards>().unwrap();
    assert_eq!(never, Reading::Inactive, "its zeros are no counters");
    assert_eq!(blk.last::<BlkIo>().unwrap().rd_req.value(), Some(10));
    // The next one is of the same tenant, or not.
    blk.write(&io(11), Ns(200));
    assert_eq!(read.read::<BlkIo>().unwrap().active().unwrap().generation, 0);
    assert!(blk.renew());
    blk.write(&io(1), Ns(300));
    assert_eq!(read.read::<BlkIo>().unwrap().active().unwrap().generation, 1);
    drop(hist);
}

#[test]
fn no_words_of_the_tenant_before_become_those_of_the_next() {
    let mut created = created();
    let frame = created.unpublished.hand_over(created.blk_queues.remove(0)).unwrap();
    let file = File::from(frame.as_fd().try_clone_to_owned().unwrap());
    let mut queue: BlkQueueWriter = elsewhere(frame);
    queue.write(&share(1000), Ns(1));
    assert!(queue.renew());
    queue.write(&of(0, 0), Ns(2));
    // Killed after the bit was set, and before a word was written.
    let bits = BlkQueueIo::DESC.mask() | BlkQueueOf::DESC.mask();
    file.write_all_at(&bits.to_le_bytes(), record::STATS_ACTIVE as u64).unwrap();
    let queue = created.unpublished.take_back::<BlkQueueWriter>(0).unwrap();
    assert_eq!(queue.generation(), 1);
    let published = created.unpublished.publish().unwrap();
    let region = attach(&published);
    let read = region.blk_queue(0).unwrap();
    assert_eq!(read.read::<BlkQueueIo>().unwrap(), Reading::Inactive);
    assert!(matches!(read.read::<BlkQueueOf>(), Ok(Reading::Active(_))));
}

#[test]
fn the_next_process_gets_new_memory_and_goes_on() {
    let mut created = created();
    created.blk_queues[1].write(&of(1, 1), now());
    let queue = created.blk_queues.remove(1);
    let mut queue: BlkQueueWriter = elsewhere(created.unpublished.hand_over(queue).unwrap());
    queue.write(&share(5), now());
    let mut published = created.unpublished.publish().unwrap();
    let before = attach(&published);
    let incarnation = published.incarnation();
    for round in 1..4u64 {
        drop(queue); // its process exits
        let mine = published.take_back::<BlkQueueWriter>(1).unwrap();
        let frame = published.hand_over(mine).unwrap();
        queue = elsewhere(frame);
        let last = queue.last::<BlkQueueIo>().unwrap();
        assert_eq!(last.0.rd_req.value(), Some(5 * round), "the counter goes on");
        queue.write(&share(5 * (round + 1)), now());
        // Nobody sees it yet.
        assert_eq!(served(&attach(&published), 1), Some(5 * round));
        assert_eq!(published.replace_frames().unwrap(), 1);
        assert_eq!(published.replace_frames().unwrap(), 0);
        let after = attach(&published);
        assert_eq!(served(&after, 1), Some(5 * (round + 1)));
        assert_eq!(after.header().incarnation, incarnation);
        // Who has the old memory is told that its writer is not there any more; everything else is as before.
        let old = before.blk_queue(1).unwrap();
        assert!(matches!(old.read::<BlkQueueIo>(), Err(ReadError::Stalled(_))));
        assert!(matches!(old.read::<BlkQueueOf>(), Ok(Reading::Active(_))));
        assert!(matches!(before.vcpu(0).unwrap().read::<Runstate>(), Ok(Reading::Active(_))));
    }
    // Before it has mapped its memory a process may die as well.
    let mine = published.take_back::<BlkQueueWriter>(1).unwrap();
    drop(published.hand_over(mine).unwrap());
    let mut mine = published.take_back::<BlkQueueWriter>(1).unwrap();
    mine.write(&share(99), now());
    assert_eq!(published.replace_frames().unwrap(), 0);
    let region = attach(&published);
    assert_eq!(served(&region, 1), Some(99));
    let dom = published.hand_over(created.dom).unwrap_err();
    assert!(matches!(dom, HandOverError::DomIsLive), "{dom}");
}

proptest! {
    /// Whatever the description and the memory say, there is an error or a writer that stays inside.
    #[test]
    fn a_hostile_frame_is_refused_or_written_inside(
        words in prop::collection::vec((0usize..2200, prop_oneof![
            Just(0u32), Just(1), Just(u32::MAX), 0u32..64, (0u32..64).prop_map(|n| n * 4096), any::<u32>(),
        ]), 0..6),
        memory in prop::collection::vec((0usize..512, any::<u64>()), 0..24),
        cut in prop::option::of(0usize..9000),
        which in 0usize..4,
    ) {
        let mut created = created();
        let frame = match which {
            0 => created.unpublished.hand_over(created.nets.remove(0)).unwrap(),
            1 => created.unpublished.hand_over(created.blk_queues.remove(0)).unwrap(),
            2 => created.unpublished.hand_over(created.dom).unwrap(),
            _ => {
                let pair = (created.blks.remove(0), created.blk_hists.remove(0));
                created.unpublished.hand_over(pair).unwrap()
            }
        };
        let (fd, mut bytes) = frame.into_parts();
        for (at, word) in words {
            if let Some(place) = bytes.get_mut(at * 4..at * 4 + 4) {
                place.copy_from_slice(&word.to_le_bytes());
            }
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        let file = File::from(fd);
        for (at, word) in memory {
            file.write_all_at(&word.to_le_bytes(), at as u64 * 8).unwrap();
        }
        // It is in bounds, or the stores below end this process.
        if let Ok(mut writer) = NetWriter::from_frame(&file, &bytes) {
            writer.write(&NetIo::NOT_PRODUCED, Ns(1));
            writer.write_arch(0, &[1.into(), 2.into()], Ns(1));
            writer.renew();
        }
        if let Ok(mut writer) = BlkQueueWriter::from_frame(&file, &bytes) {
            writer.write(&share(1), Ns(1));
            writer.renew();
        }
        if let Ok((mut writer, mut hist)) = <(BlkWriter, BlkHistWriter)>::from_frame(&file, &bytes) {
            writer.write(&io(1), Ns(1));
            writer.write_arch(0, &[1.into(), 2.into()], Ns(1));
            hist.write(&RdLatency::EMPTY, Ns(1));
        }
        if let Ok(mut writer) = DomWriter::from_frame(&file, &bytes) {
            writer.write(&Cpu::NOT_PRODUCED, Ns(1));
        }
        // The owner takes its record back, whatever was done to it, if it can be published with it.
        let taken = match which {
            0 => created.unpublished.take_back::<NetWriter>(0).is_ok(),
            1 => created.unpublished.take_back::<BlkQueueWriter>(0).is_ok(),
            2 => created.unpublished.take_back::<DomWriter>(0).is_ok(),
            _ => created.unpublished.take_back::<(BlkWriter, BlkHistWriter)>(0).is_ok(),
        };
        prop_assert!(taken);
    }
}

#[test]
fn a_description_that_was_changed_is_refused_or_means_a_frame() {
    let mut created = created();
    let (fd, bytes) = created.unpublished.hand_over(created.nets.remove(1)).unwrap().into_parts();
    assert!(bytes.len() > SCHEMA_AT && HEAD_LEN == 32);
    let parse = |bytes: &[u8]| NetWriter::from_frame(&fd, bytes).map(|_| ());
    parse(&bytes).unwrap();
    for at in [0usize, 4, 8, 12, 16] {
        let mut wrong = bytes.clone();
        wrong[at] ^= 0x40;
        let found = parse(&wrong);
        assert!(found.is_err(), "byte {at}: {found:?}");
    }
}
