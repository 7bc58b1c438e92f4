//! Block devices, network interfaces, arch slots and the schema, from writer to reader.

use std::fs::File;

use domstat_consumer::libvirt::{BLOCK_PARAMS, BlockParam, BlockStats};
use domstat_consumer::region::MappedFile;
use domstat_consumer::{Reading, Region, Snapshot};
use domstat_invariant_checker::{Options, Subject, watch_steps};
use domstat_layout::latest::{
    BlkIdentity, BlkIo, BlkIoTimes, BlkJob, BlkVbd, Cpu, Exits, NetIdentity, NetIo, Runstate, Sched,
};
use domstat_layout::schema::{FieldKind, FieldShape, FieldSpec, FieldUnit, GroupSpec};
use domstat_layout::{Clock, Group, Name, Ns, REVISIONS, RecordKind, Schema, Stat, Word};
use domstat_producer::{Created, PlanError, RegionBuilder};
use domstat_tests::runstate;
use zerocopy::{FromZeros, IntoBytes};

const EXITS: FieldSpec<'_> = FieldSpec {
    name: "exits",
    shape: FieldShape { kind: FieldKind::CUMULATIVE, ..FieldShape::PLAIN },
};
const WAIT: FieldSpec<'_> = FieldSpec {
    name: "halt_wait_hist",
    shape: FieldShape {
        kind: FieldKind::LOG_HISTOGRAM,
        unit: FieldUnit::SECONDS,
        exponent: -9,
        nr: 4,
        ..FieldShape::PLAIN
    },
};

fn builder() -> RegionBuilder {
    let pages = GroupSpec { name: "pages", fields: &[EXITS] };
    let kvm = GroupSpec { name: "kvm", fields: &[EXITS, WAIT] };
    RegionBuilder::new("devices")
        .clock(Clock::Monotonic)
        .vcpus(2)
        .blks(3)
        .nets(1)
        .arch_dom(&[pages])
        .unwrap()
        .arch_vcpu(&[kvm])
        .unwrap()
}

fn fill(created: &mut Created) {
    let sched = Sched { time_ns: Word::from(5), ..Sched::NOT_PRODUCED };
    for vcpu in &mut created.vcpus {
        vcpu.write(&runstate(0), Ns(1));
        vcpu.write(&sched, Ns(2));
    }
    created.blks[0].write(&BlkIdentity { name: Name::new("vda") }, Ns(3));
    created.blks[0].write(&BlkIo { rd_req: Word::from(34), ..BlkIo::NOT_PRODUCED }, Ns(4));
    created.blks[0].set(BlkIo::wr_req, 16, Ns(5));
    created.nets[0].write(&NetIdentity { name: Name::new("vnet0") }, Ns(6));
    created.nets[0].set(NetIo::tx_bytes, 7, Ns(7));
    created.dom.set(Cpu::user_ns, 8, Ns(8));
    assert!(created.dom.write_arch(0, &[Word::from(9)], Ns(9)));
    let words = [10, 1, 2, 3, 4].map(Word::from);
    assert!(created.vcpus[1].write_arch(0, &words, Ns(10)));
    assert!(!created.vcpus[1].write_arch(0, &words[1..], Ns(10)), "of another length");
    assert!(!created.vcpus[1].write_arch(1, &words, Ns(10)), "no such group");
}

fn assert_reads(region: &Region) {
    let blk = region.blk(0).unwrap();
    let io = blk.read::<BlkIo>().unwrap().active().unwrap();
    assert_eq!((io.rd_req.get(), io.wr_req.get()), (Stat::Value(34), Stat::Value(16)));
    assert_eq!((io.rd_bytes.get(), io.updated), (Stat::NotProduced, Ns(5)));
    assert_eq!(blk.stat(BlkIoTimes::flush_req).unwrap(), Stat::GroupInactive);
    assert_eq!(region.blks().len(), 3);
    assert!(region.blk(3).is_none());
    let net = region.nets().next().unwrap();
    assert_eq!(net.stat(NetIo::tx_bytes).unwrap(), Stat::Value(7));
    assert_eq!(region.dom().stat(Cpu::user_ns).unwrap(), Stat::Value(8));
    let mut snapshot = Snapshot::new();
    region.snapshot(&mut snapshot);
    assert_eq!((snapshot.nr_blks(), snapshot.nr_nets()), (3, 1));
    assert_eq!(snapshot.blk(0).unwrap().blk_group::<BlkIo>(), blk.read::<BlkIo>());
    assert_eq!(snapshot.net(0).unwrap().net_group::<NetIo>(), net.read::<NetIo>());
    let name = snapshot.blk(0).unwrap().blk_group::<BlkIdentity>().unwrap().active().unwrap().name;
    assert_eq!(name.as_str(), Some("vda"));
    let job = snapshot.blk(1).unwrap().blk_group::<BlkJob>().unwrap();
    assert_eq!(job, Reading::Inactive);
    let sched = snapshot.vcpu(1).unwrap().vcpu_group::<Sched>().unwrap().active().unwrap();
    assert_eq!(sched.time_ns.get(), Stat::Value(5));
    let exits = snapshot.vcpu(1).unwrap().vcpu_group::<Exits>().unwrap();
    assert_eq!(exits, Reading::Inactive);
}

/// Everything active that the region itself describes: record, index, group, field, words.
fn described(region: &Region) -> Vec<(String, u32, String, String, Vec<u64>)> {
    let bytes = region.copy_schema().unwrap();
    let schema = Schema::parse(&bytes).unwrap();
    let mut found = Vec::new();
    let mut reader = region.schema_reader();
    for record in schema.records() {
        for index in 0..record.nr {
            for group in schema.groups().filter(|g| g.record == record.kind) {
                let reading = reader.read(&record, index, &group).unwrap();
                let Reading::Active(sample) = reading else { continue };
                for field in schema.fields(&group) {
                    let at = (field.offset - group.offset - 16) / 8;
                    let values = sample.words[at..at + field.width / 8].to_vec();
                    let names = (record.name.to_owned(), group.name.to_owned());
                    found.push((names.0, index, names.1, field.name.to_owned(), values));
                }
            }
        }
    }
    found
}

fn assert_describes(region: &Region) {
    let all = described(region);
    let values = |record: &str, index: u32, group: &str, field: &str| {
        let is = |f: &&(String, u32, String, String, Vec<u64>)| {
            (f.0.as_str(), f.1, f.2.as_str(), f.3.as_str()) == (record, index, group, field)
        };
        all.iter().find(is).map(|f| f.4.clone())
    };
    assert_eq!(values("blk", 0, "io", "wr_req"), Some(vec![16]));
    assert_eq!(values("blk", 0, "io", "rd_bytes"), Some(vec![u64::MAX]));
    assert_eq!(values("net", 0, "io", "tx_bytes"), Some(vec![7]));
    assert_eq!(values("dom", 0, "cpu", "user_ns"), Some(vec![8]));
    assert_eq!(values("vcpu", 1, "runstate_twin", "running_ns"), Some(vec![0]));
    assert_eq!(values("arch_dom", 0, "pages", "exits"), Some(vec![9]));
    assert_eq!(values("arch_vcpu", 1, "kvm", "halt_wait_hist"), Some(vec![1, 2, 3, 4]));
    assert_eq!(values("arch_vcpu", 0, "kvm", "exits"), None, "was never written");
}

#[test]
fn in_one_memfd() {
    let mut created = builder().create_memfd().unwrap();
    fill(&mut created);
    let region = created.unpublished.publish().unwrap();
    let fd = region.as_fd().unwrap().try_clone_to_owned().unwrap();
    let mapped = MappedFile::from_fd(fd).unwrap();
    let subject = Subject::new(mapped.mem()).with_file(mapped.file());
    let report = watch_steps(&subject, &Options::default(), |looks| looks < 3).unwrap();
    assert!(report.passed(), "{report}");
    drop(subject);
    let consumer = mapped.attach().unwrap();
    assert_reads(&consumer);
    assert_describes(&consumer);
}

#[test]
fn in_frames_of_their_own() {
    let mut created = builder().create_memfd_frames().unwrap();
    fill(&mut created);
    let region = created.unpublished.publish().unwrap();
    let fds = region.frame_fds();
    let geometry = region.geometry();
    let devices = [RecordKind::Blk, RecordKind::Net].map(|kind| geometry.array(kind).nr as usize);
    assert_eq!(fds.len(), 1 + 2 + devices[0] + devices[1] + 1, "each record, and the schema");
    let consumer = Region::from_frames(fds[0], &fds[1..]).unwrap();
    assert_reads(&consumer);
    assert_describes(&consumer);
    assert!(Region::from_frames(fds[0], &fds[1..3]).is_err());
}

#[test]
fn a_device_that_is_exchanged_leaves_nothing_behind() {
    let mut created = builder().create_memfd().unwrap();
    fill(&mut created);
    let region = created.unpublished.publish().unwrap();
    let consumer = Region::from_fd(region.as_fd().unwrap().try_clone_to_owned().unwrap()).unwrap();
    created.blks[0].renew();
    assert_eq!(consumer.blk(0).unwrap().read::<BlkIo>().unwrap(), Reading::Inactive);
    created.blks[0].set(BlkIo::rd_req, 1, Ns(20));
    let io = consumer.blk(0).unwrap().read::<BlkIo>().unwrap().active().unwrap();
    assert_eq!((io.rd_req.get(), io.wr_req.get()), (Stat::Value(1), Stat::NotProduced));
    assert_eq!(io.generation, 1);
    created.vcpus[1].renew();
    assert!(described(&consumer).iter().all(|f| f.0 != "arch_vcpu"));
}

#[test]
fn an_older_revision_has_what_its_build_had() {
    for revision in REVISIONS {
        let n = revision.number;
        let mut builder = RegionBuilder::new("old").revision(n).vcpus(2);
        if n >= 2 {
            builder = builder.blks(1);
        }
        let mut created = builder.create_memfd().unwrap();
        for vcpu in &mut created.vcpus {
            vcpu.write(&runstate(0), Ns(1));
            vcpu.set(Sched::delay_ns, 4, Ns(2));
        }
        for blk in &mut created.blks {
            blk.set(BlkIo::errs, 5, Ns(3));
            blk.set(BlkIoTimes::flush_req, 6, Ns(4));
        }
        let region = created.unpublished.publish().unwrap();
        let fd = region.as_fd().unwrap().try_clone_to_owned().unwrap();
        let file = File::from(fd);
        let mapped = MappedFile::from_fd(file).unwrap();
        let report = watch_steps(&Subject::new(mapped.mem()), &Options::default(), |n| n < 2);
        let report = report.unwrap();
        assert!(report.passed(), "revision {n}: {report}");
        let consumer = mapped.attach().unwrap();
        for kind in [RecordKind::Dom, RecordKind::Vcpu] {
            assert_eq!(consumer.geometry().array(kind).size, revision.size(kind));
        }
        let vcpu = consumer.vcpu(1).unwrap();
        assert_eq!(vcpu.read::<Runstate>().unwrap().active().unwrap().group, runstate(0));
        let expected = if n >= 2 { Stat::Value(4) } else { Stat::GroupInactive };
        assert_eq!(vcpu.stat(Sched::delay_ns).unwrap(), expected, "revision {n}");
        if n >= 2 {
            let blk = consumer.blk(0).unwrap();
            assert_eq!(blk.stat(BlkIo::errs).unwrap(), Stat::Value(5));
            let unknown = matches!(blk.read::<BlkIoTimes>().unwrap(), Reading::Unknown);
            assert_eq!(unknown, n == 2);
        }
        assert_eq!(consumer.copy_schema().is_some(), n >= 4);
    }
}

#[test]
fn what_a_revision_does_not_have_is_refused() {
    let plan = |builder: RegionBuilder| builder.plan().unwrap_err();
    let not_in = |revision, what| PlanError::NotInRevision { revision, what };
    let of = |revision| RegionBuilder::new("old").revision(revision);
    let newest = REVISIONS[REVISIONS.len() - 1].number;
    assert_eq!(plan(of(1).blks(1)), not_in(1, "block devices"));
    assert_eq!(plan(of(3).nets(1)), not_in(3, "network interfaces"));
    assert_eq!(plan(of(3).schema(true)), not_in(3, "schema"));
    assert_eq!(plan(of(newest + 1)), PlanError::Revision { found: newest + 1, newest });
    let group = GroupSpec { name: "kvm", fields: &[EXITS] };
    assert_eq!(plan(of(2).arch_vcpu(&[group]).unwrap()), not_in(2, "arch slots"));
    let unnamed = GroupSpec { name: "", fields: &[EXITS] };
    assert!(matches!(of(4).arch_dom(&[unnamed]), Err(PlanError::Described { .. })));
}

proptest::proptest! {
    /// Whatever the bytes are, a schema is refused or keeps what holding one proves.
    #[test]
    fn a_schema_of_any_bytes(
        flips in proptest::collection::vec((0usize..20_000, proptest::prelude::any::<u8>()), 0..6),
        cut in proptest::option::of(0usize..20_000),
    ) {
        let created = builder().create_memfd().unwrap();
        let region = created.unpublished.publish().unwrap();
        let fd = region.as_fd().unwrap().try_clone_to_owned().unwrap();
        let mut bytes = Region::from_fd(fd).unwrap().copy_schema().unwrap();
        for (at, byte) in &flips {
            let at = at % bytes.len();
            bytes[at] = *byte;
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        let Ok(schema) = Schema::parse(&bytes) else {
            proptest::prop_assert!(!flips.is_empty() || cut.is_some(), "a good one is refused");
            return Ok(());
        };
        let records: Vec<_> = schema.records().collect();
        for group in schema.groups() {
            let record = records.iter().find(|r| r.kind == group.record).unwrap();
            proptest::prop_assert!(group.offset >= record.header && group.end() <= record.size);
            let mut end = group.offset + 16;
            for field in schema.fields(&group) {
                proptest::prop_assert!(field.offset >= end && !field.name.is_empty());
                end = field.offset + field.width;
            }
            proptest::prop_assert!(end <= group.end());
        }
    }
}

/// What a disk's writer wrote, as libvirt hands it out.
fn params_of(
    write: impl FnOnce(&mut domstat_producer::BlkWriter),
) -> (Vec<BlockParam>, BlockStats) {
    let mut created = RegionBuilder::new("params").blks(1).create_memfd().unwrap();
    created.vcpus[0].write(&runstate(1), Ns(1));
    write(&mut created.blks[0]);
    let published = created.unpublished.publish().unwrap();
    let region = Region::from_fd(published.as_fd().unwrap().try_clone_to_owned().unwrap()).unwrap();
    let blk = region.blk(0).unwrap();
    let most = blk.read_block_params(&mut []).unwrap();
    assert_eq!(most, BLOCK_PARAMS.len());
    let mut params = vec![BlockParam::default(); most];
    let supported = blk.read_block_params(&mut params).unwrap();
    params.truncate(supported);
    // As many as there is room for, and no more.
    let mut two = [BlockParam::default(); 2];
    let filled = blk.read_block_params(&mut two).unwrap();
    assert_eq!(two[..filled], params[..filled]);
    assert_eq!(filled, supported.min(2));
    let mut stats = BlockStats::new_zeroed();
    blk.read_block_stats(stats.as_mut_bytes()).unwrap();
    (params, stats)
}

#[test]
fn parameters_are_those_that_the_producer_supports() {
    // What is produced of a disk of xen-blkback's.
    let (params, stats) = params_of(|blk| {
        let io = BlkIo {
            rd_req: 3.into(),
            rd_bytes: 4096.into(),
            wr_req: 2.into(),
            ..BlkIo::NOT_PRODUCED
        };
        blk.write(&BlkIo { wr_bytes: 0.into(), ..io }, Ns(1));
        blk.write(&BlkIoTimes { flush_req: 7.into(), ..BlkIoTimes::NOT_PRODUCED }, Ns(1));
        blk.write(&BlkVbd { oo_req: 5.into(), ..BlkVbd::NOT_PRODUCED }, Ns(1));
    });
    let expected = [
        ("wr_bytes", 0),
        ("wr_operations", 2),
        ("rd_bytes", 4096),
        ("rd_operations", 3),
        ("flush_operations", 7),
        ("errs", 5),
    ];
    assert_eq!(params, expected.map(|(name, value)| BlockParam { name, value }));
    assert_eq!((stats.v1.rd_bytes, stats.v1.wr_bytes, stats.v1.errs), (4096, 0, -1));
    assert_eq!((stats.rd_total_times, stats.flush_req), (-1, 7));

    // Of one that counts failures these are the errors; of one that counts nothing there is none.
    let failed = |blk: &mut domstat_producer::BlkWriter| {
        blk.write(&BlkIo { errs: 1.into(), ..BlkIo::NOT_PRODUCED }, Ns(1));
        blk.write(&BlkVbd { oo_req: 5.into(), ..BlkVbd::NOT_PRODUCED }, Ns(1));
    };
    assert_eq!(params_of(failed).0, [BlockParam { name: "errs", value: 1 }]);
    let (params, stats) = params_of(|_| {});
    assert_eq!((params.len(), stats.v1.errs, stats.v1.rd_req), (0, -1, -1));
}

#[test]
fn a_pass_over_all_that_a_schema_describes_waits_no_longer_than_one_read() {
    use std::os::unix::fs::FileExt;
    const VCPUS: u32 = 1000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    let mut created = RegionBuilder::new("p").vcpus(VCPUS).create_file(&path).unwrap();
    for vcpu in &mut created.vcpus {
        vcpu.write(&Runstate::NOT_PRODUCED, Ns(1));
    }
    let _published = created.unpublished.publish().unwrap();
    let region = Region::open(&path).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for index in 0..VCPUS {
        let at = region.geometry().array(RecordKind::Vcpu).offset(index).unwrap();
        file.write_all_at(&7u32.to_le_bytes(), (at + Runstate::DESC.offset) as u64).unwrap();
    }
    let bytes = region.copy_schema().unwrap();
    let schema = Schema::parse(&bytes).unwrap();
    let begin = std::time::Instant::now();
    let (mut reader, mut stalled) = (region.schema_reader(), 0);
    for record in schema.records() {
        for group in schema.groups().filter(|g| g.record == record.kind && g.twin_of.is_none()) {
            for index in 0..record.nr {
                stalled += u32::from(reader.read(&record, index, &group).is_err());
            }
        }
    }
    assert_eq!(stalled, VCPUS);
    // One after the other they would take 20 ms each.
    assert!(begin.elapsed() < std::time::Duration::from_secs(5), "{:?}", begin.elapsed());
}
