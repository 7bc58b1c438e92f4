//! A region that outlives its producer: what the next one makes of it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use domstat_consumer::{Reading, Region};
use domstat_layout::latest::{BlkExtent, BlkIdentity, BlkIo, Cpu, Memory, RunState, Runstate};
use domstat_layout::revision::twin_of;
use domstat_layout::sink::{DomSink, VcpuSink};
use domstat_layout::{Clock, Group, Name, Ns, Stat, Word};
use domstat_producer::{Created, MonotonicSink, Region as Published, RegionBuilder};
use domstat_tests::runstate;

fn builder() -> RegionBuilder {
    RegionBuilder::new("web1").domid(7).vcpus(2).blks(1).clock(Clock::Monotonic)
}

/// The region's bytes, as a service manager keeps them, changed by `change`.
fn kept(region: &Published, change: impl FnOnce(&mut [u8])) -> OwnedFd {
    let mut file = File::from(region.as_fd().unwrap().try_clone_to_owned().unwrap());
    std::io::Seek::rewind(&mut file).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    change(&mut bytes);
    let mut copy = tempfile::tempfile().unwrap();
    copy.write_all(&bytes).unwrap();
    copy.into()
}

fn attach(region: &Published) -> Region {
    Region::from_fd(region.as_fd().unwrap().try_clone_to_owned().unwrap()).unwrap()
}

/// A producer with something to say in every kind of group.
fn first() -> (Published, Writers) {
    let mut created = builder().create_memfd().unwrap();
    created.vcpus[0].renew();
    for vcpu in &mut created.vcpus {
        vcpu.write(&runstate(9), Ns(9));
    }
    created.dom.set(Cpu::user_ns, 8, Ns(8));
    created.blks[0].write(&BlkIdentity { name: Name::new("vda") }, Ns(3));
    created.blks[0].set(BlkIo::rd_req, 34, Ns(4));
    created.blks[0].set(BlkExtent::allocation_bytes, 5, Ns(5));
    let Created { unpublished, dom, vcpus, blks, nets, .. } = created;
    (unpublished.publish().unwrap(), (dom, vcpus, blks, nets))
}

type Writers = (
    domstat_producer::DomWriter,
    Vec<domstat_producer::VcpuWriter>,
    Vec<domstat_producer::BlkWriter>,
    Vec<domstat_producer::NetWriter>,
);

#[test]
fn the_next_producer_goes_on_with_everything() {
    let (was, _writers) = first();
    let created = builder().continue_memfd(kept(&was, |_| {})).unwrap();
    assert!(created.unpublished.continues());
    let is = created.unpublished.publish().unwrap();
    assert_eq!(is.incarnation(), was.incarnation());
    let (before, after) = (attach(&was), attach(&is));
    assert_eq!(before.header(), after.header());
    assert!(after.notify_count() > before.notify_count());
    assert_eq!(after.copy_schema(), before.copy_schema());
    for i in 0..2 {
        let read = |region: &Region| {
            let sample = region.vcpu(i).unwrap().read::<Runstate>().unwrap().active().unwrap();
            (sample.group, sample.updated, sample.generation)
        };
        assert_eq!(read(&after), read(&before));
        assert_eq!(read(&after).2, 1 - i, "generations go on");
    }
    let blk = after.blk(0).unwrap();
    assert_eq!(blk.stat(BlkIo::rd_req).unwrap(), Stat::Value(34));
    assert_eq!(blk.stat(BlkIo::wr_req).unwrap(), Stat::NotProduced);
    let name = blk.read::<BlkIdentity>().unwrap().active().unwrap();
    assert_eq!(name.name.as_str(), Some("vda"));
    assert_eq!(after.dom().stat(Cpu::user_ns).unwrap(), Stat::Value(8));
    assert!(matches!(after.dom().read::<Memory>().unwrap(), Reading::Inactive));
}

#[test]
fn what_a_kill_left_in_mid_update_is_mended() {
    let (was, _writers) = first();
    let geometry = was.geometry();
    let vcpu = geometry.vcpu_offset(1).unwrap();
    let blk = geometry.array(domstat_layout::RecordKind::Blk).offs;
    // In the middle of the next write of each: the seq is odd, the first word is new.
    let write = |bytes: &mut [u8], group: &domstat_layout::GroupDesc, base: usize, first: u64| {
        bytes[base + group.offset] |= 1;
        let word = base + group.offset + 16;
        bytes[word..word + 8].copy_from_slice(&first.to_le_bytes());
    };
    let memfd = kept(&was, |bytes| {
        write(bytes, Runstate::DESC, vcpu, 77);
        // Without its twin, as of an older producer.
        let active = blk + 8;
        bytes[active] |= 1;
        let twin = twin_of(BlkIo::DESC).unwrap();
        let mask = u64::from_le_bytes(bytes[active..active + 8].try_into().unwrap()) & !twin.mask();
        bytes[active..active + 8].copy_from_slice(&mask.to_le_bytes());
        write(bytes, BlkIo::DESC, blk, 35);
        write(bytes, BlkIdentity::DESC, blk, 0x41);
        write(bytes, BlkExtent::DESC, blk, 6);
    });
    let created = builder().continue_memfd(memfd).unwrap();
    assert!(created.unpublished.continues());
    let is = created.unpublished.publish().unwrap();
    let after = attach(&is);
    // From the second copy, which is of the write before.
    let sample = after.vcpu(1).unwrap().read::<Runstate>().unwrap().active().unwrap();
    assert_eq!((sample.group, sample.updated), (runstate(9), Ns(9)));
    let blk = after.blk(0).unwrap();
    assert_eq!(blk.stat(BlkIo::rd_req).unwrap(), Stat::Value(35), "a counter is never less");
    assert_eq!(blk.stat(BlkExtent::allocation_bytes).unwrap(), Stat::NotProduced);
    assert!(matches!(blk.read::<BlkIdentity>().unwrap(), Reading::Inactive), "no half name");
}

#[test]
fn another_domain_shape_or_state_is_not_gone_on_with() {
    let (was, _writers) = first();
    let new = |builder: RegionBuilder, kept: OwnedFd| {
        let created = builder.continue_memfd(kept).unwrap();
        let continues = created.unpublished.continues();
        let region = created.unpublished.publish().unwrap();
        assert_eq!(continues, region.incarnation() == was.incarnation());
        continues
    };
    assert!(new(builder(), kept(&was, |_| {})));
    assert!(!new(builder().domid(8), kept(&was, |_| {})));
    assert!(!new(builder().vcpus(3), kept(&was, |_| {})));
    assert!(!new(builder().clock(Clock::Boottime), kept(&was, |_| {})));
    assert!(!new(builder().revision(3), kept(&was, |_| {})));
    assert!(!new(builder(), kept(&was, |bytes| bytes[36] = 2)), "retired");
    assert!(!new(builder(), kept(&was, |bytes| bytes[0] = 0)), "no region");
    let schema = was.geometry().schema();
    assert!(!new(builder(), kept(&was, |bytes| bytes[schema.offs + 20] ^= 1)));
    let garbage = tempfile::tempfile().unwrap();
    garbage.set_len(was.len() as u64).unwrap();
    assert!(!new(builder(), garbage.into()));
    assert!(!new(builder(), tempfile::tempfile().unwrap().into()));
}

fn times(running: u64, blocked: u64) -> Runstate {
    Runstate {
        state: RunState::Running.into(),
        running_ns: Word::from(running),
        runnable_ns: Word::from(0),
        blocked_ns: Word::from(blocked),
        offline_ns: Word::from(0),
        ..Runstate::NOT_PRODUCED
    }
}

#[test]
fn counters_do_not_go_back_and_another_vcpu_is_another_tenant() {
    const MS: u64 = 1_000_000;
    let Created { unpublished, mut vcpus, .. } = builder().create_memfd().unwrap();
    for vcpu in &mut vcpus {
        vcpu.write(&times(600 * MS, 400 * MS), Ns(1_500 * MS));
    }
    let was = unpublished.publish().unwrap();
    let Created { unpublished, dom, vcpus, .. } =
        builder().continue_memfd(kept(&was, |_| {})).unwrap();
    let is = attach(&unpublished.publish().unwrap());
    let mut sinks: Vec<_> = vcpus.into_iter().map(MonotonicSink::vcpu).collect();
    assert_eq!(sinks[0].last::<Runstate>(), Some(times(600 * MS, 400 * MS)));
    let mut dom = MonotonicSink::dom(dom);
    dom.write(&Memory { current_bytes: Word::from(1), ..Memory::NOT_PRODUCED }, Ns(1));
    let read = |i: u32| {
        let sample = is.vcpu(i).unwrap().read::<Runstate>().unwrap().active().unwrap();
        let ms = |word: Word| word.value().unwrap() / MS;
        (ms(sample.running_ns), ms(sample.blocked_ns), sample.generation)
    };
    // The same vCPU, described a little differently.
    sinks[0].write(&times(605 * MS, 397 * MS), Ns(1_502 * MS));
    assert_eq!(read(0), (602, 400, 0), "the times still sum to the age");
    sinks[0].write(&times(606 * MS, 401 * MS), Ns(1_507 * MS));
    assert_eq!(read(0), (606, 401, 0));
    assert_eq!(sinks[0].last::<Runstate>(), None, "it has caught up");
    // One that began later.
    sinks[1].write(&times(50 * MS, 50 * MS), Ns(1_502 * MS));
    assert_eq!(read(1), (50, 50, 1));
    assert!(matches!(is.dom().read::<Memory>().unwrap(), Reading::Active(_)));
}
