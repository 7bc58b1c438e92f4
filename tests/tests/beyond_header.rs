//! Kinds of records beyond the header, from writer to reader: distributions, shares, labels and arch
//! slots of devices.

use std::fs::File;
use std::os::unix::fs::FileExt;

use domstat_consumer::region::MappedFile;
use domstat_consumer::{Reading, Region};
use domstat_invariant_checker::{Options, Subject, check};
use domstat_layout::header::dom;
use domstat_layout::histogram::HistogramGroup;
use domstat_layout::latest::{
    BlkIo, BlkQueueIo, BlkQueueOf, NetQueueIo, NetQueueOf, RdLatency, Runstate, Wait,
};
use domstat_layout::schema::{self, FieldShape, FieldSpec, GroupSpec};
use domstat_layout::{
    Clock, Group, Ns, RecordKind, RecordTableError, Rule, Schema, Share, Stat, Word, latest,
};
use domstat_producer::{Created, Placement, PlanError, RegionBuilder};
use domstat_tests::runstate;

const NUMBER: FieldSpec<'_> = FieldSpec { name: "number", shape: FieldShape::PLAIN };

fn builder() -> RegionBuilder {
    let own = [GroupSpec { name: "own", fields: &[NUMBER] }];
    RegionBuilder::new("beyond")
        .clock(Clock::Monotonic)
        .vcpus(3)
        .blks(2)
        .nets(1)
        .vcpu_histograms(true)
        .blk_histograms(true)
        .blk_queues(4)
        .net_queues(1)
        .labels([("tenant", "acme")])
        .unwrap()
        .arch_vcpu(&own)
        .unwrap()
        .arch_blk(&own)
        .unwrap()
        .arch_net(&own)
        .unwrap()
}

fn fill(created: &mut Created) {
    for (i, (vcpu, hist)) in (0..).zip(created.vcpus.iter_mut().zip(&mut created.vcpu_hists)) {
        vcpu.write(&runstate(0), Ns(1));
        let mut wait = Wait::EMPTY;
        wait.record(1000 + i);
        hist.write(&wait, Ns(2));
    }
    let mut latency = RdLatency::EMPTY;
    latency.record(700);
    created.blk_hists[1].write(&latency, Ns(3));
    for (i, share) in (0..).zip(&mut created.blk_queues).skip(1) {
        let of = [1, 0, i].map(Word::from);
        let of =
            BlkQueueOf { device: of[0], generation: of[1], queue: of[2], pid: Word::NOT_PRODUCED };
        share.write(&of, Ns(4));
        let io = BlkIo { rd_req: Word::from(10 * i), ..BlkIo::NOT_PRODUCED };
        share.write(&BlkQueueIo::share(io), Ns(5));
    }
    let of = NetQueueOf { device: 0.into(), generation: 0.into(), ..NetQueueOf::NOT_PRODUCED };
    created.net_queues[0].write(&of, Ns(6));
    assert!(created.blks[1].write_arch(0, &[Word::from(7)], Ns(7)));
    assert!(created.nets[0].write_arch(0, &[Word::from(8)], Ns(8)));
}

fn assert_reads(region: &Region) {
    assert_eq!(region.beyond_header(), Ok(()));
    assert_eq!((region.vcpu_hists().len(), region.blk_hists().len()), (3, 2));
    for (i, hist) in (0..).zip(region.vcpu_hists()) {
        let wait = hist.read::<Wait>().unwrap().active().unwrap();
        assert_eq!((wait.max().value(), wait.count().value()), (Some(1000 + i), Some(1)));
        assert_eq!(hist.stat(Wait::bucket(1000)).unwrap(), Stat::Value(1));
    }
    assert!(region.vcpu_hist(3).is_none());
    let latency = region.blk_hist(1).unwrap().read::<RdLatency>().unwrap().active().unwrap();
    assert_eq!((latency.sum().value(), latency.updated), (Some(700), Ns(3)));
    assert_eq!(region.blk_hist(0).unwrap().read::<RdLatency>().unwrap(), Reading::Inactive);
    // The sum of the shares that are active.
    let mut sum: Option<BlkIo> = None;
    for share in region.blk_queues() {
        let Reading::Active(of) = share.read::<BlkQueueOf>().unwrap() else { continue };
        assert_eq!((of.device.value(), of.pid.get()), (Some(1), Stat::NotProduced));
        let io = share.read::<BlkQueueIo>().unwrap().active().unwrap();
        match &mut sum {
            Some(sum) => io.group.add_to(sum),
            None => sum = Some(io.group.whole()),
        }
    }
    let sum = sum.unwrap();
    assert_eq!((sum.rd_req.value(), sum.rd_bytes.get()), (Some(60), Stat::NotProduced));
    let net = region.net_queue(0).unwrap();
    assert_eq!(net.stat(NetQueueOf::device).unwrap(), Stat::Value(0));
    assert_eq!(net.read::<NetQueueIo>().unwrap(), Reading::Inactive);
    let labels = region.labels().unwrap().active().unwrap();
    assert_eq!(labels.text.labels().unwrap().collect::<Vec<_>>(), [("tenant", "acme")]);
    for vcpu in region.vcpus() {
        assert!(matches!(vcpu.read::<Runstate>().unwrap(), Reading::Active(_)));
    }
}

/// The words of every active group of a kind that the region's own schema describes.
fn described(region: &Region, kind: RecordKind) -> Vec<(u32, String, Vec<u64>)> {
    let bytes = region.copy_schema().unwrap();
    let schema = Schema::parse(&bytes).unwrap();
    let record = schema.records().find(|r| r.kind == kind.number()).unwrap();
    let mut reader = region.schema_reader();
    let mut found = Vec::new();
    for index in 0..record.nr {
        for group in schema.groups().filter(|g| g.record == record.kind) {
            if let Reading::Active(sample) = reader.read(&record, index, &group).unwrap() {
                found.push((index, group.name.to_owned(), sample.words.to_vec()));
            }
        }
    }
    found
}

fn attach(created: Created) -> (domstat_producer::Region, Region) {
    let producer = created.unpublished.publish().unwrap();
    let fd = producer.as_fd().unwrap().try_clone_to_owned().unwrap();
    (producer, Region::from_fd(fd).unwrap())
}

fn passes(region: &Region) {
    let report = check(&Subject::new(region.mem()), &Options::default()).unwrap();
    assert!(report.passed(), "{report}");
}

#[test]
fn they_are_read_as_they_were_written_in_both_placements() {
    for placement in [Placement::Packed, Placement::PageGranular] {
        let mut created = builder().placement(placement).create_memfd().unwrap();
        fill(&mut created);
        let (_producer, region) = attach(created);
        assert_reads(&region);
        for (kind, index, number) in [(RecordKind::ArchBlk, 1, 7), (RecordKind::ArchNet, 0, 8)] {
            let found = described(&region, kind);
            assert_eq!((found.len(), found[0].0, &*found[0].1), (1, index, "own"));
            assert_eq!(found[0].2[0], number);
        }
        let waits = described(&region, RecordKind::VcpuHist);
        assert_eq!((waits.len(), waits[2].2[0], waits[2].2.len()), (3, 1002, 42));
        passes(&region);
    }
}

#[test]
fn in_frames_they_lie_with_the_record_that_they_belong_to() {
    let builder = builder().placement(Placement::PageGranular);
    let g = builder.plan().unwrap().geometry();
    let page = rustix::param::page_size();
    for (kind, base) in [
        (RecordKind::VcpuHist, RecordKind::Vcpu),
        (RecordKind::BlkHist, RecordKind::Blk),
        (RecordKind::ArchBlk, RecordKind::Blk),
        (RecordKind::ArchNet, RecordKind::Net),
    ] {
        let (of, base) = (g.array(kind), g.array(base));
        assert_eq!((of.nr, of.stride), (base.nr, base.stride), "{}", kind.name());
        for i in 0..of.nr {
            assert_eq!(of.offset(i).unwrap() / page, base.offset(i).unwrap() / page);
        }
    }
    assert!(g.array(RecordKind::Labels).offs < page, "the dom record's frame");
    let shares = g.array(RecordKind::BlkQueue);
    assert!(shares.offs.is_multiple_of(page) && shares.stride == page);
    let mut created = builder.create_memfd_frames().unwrap();
    fill(&mut created);
    let producer = created.unpublished.publish().unwrap();
    let fds = producer.frame_fds();
    let shares = 4 + 1;
    assert_eq!(
        fds.len(),
        1 + 3 + 2 + 1 + shares + 1,
        "what belongs to a record has no frame of its own"
    );
    assert_reads(&Region::from_frames(fds[0], &fds[1..]).unwrap());
}

#[test]
fn a_region_that_asks_for_none_is_not_longer() {
    for placement in [Placement::Packed, Placement::PageGranular] {
        let plain = RegionBuilder::new("p").vcpus(5).blks(2).nets(1).placement(placement);
        let g = plain.plan().unwrap().geometry();
        let page = if placement == Placement::Packed { 64 } else { rustix::param::page_size() };
        let up = |size: usize| size.next_multiple_of(page);
        let arrays = up(latest::DOM_SIZE)
            + 5 * up(latest::VCPU_SIZE)
            + 2 * up(latest::BLK_SIZE)
            + up(latest::NET_SIZE);
        assert_eq!((g.schema().offs, g.end()), (arrays, arrays + g.schema().size));
        assert!(RecordKind::OPTIONAL.into_iter().all(|kind| g.array(kind).nr == 0));
        // Packed, the vCPU array is as dense with histograms as without.
        let with = plain.vcpu_histograms(true).plan().unwrap().geometry();
        assert_eq!(with.vcpu_stride(), g.vcpu_stride());
    }
}

#[test]
fn a_schema_as_short_as_its_table_of_records_is_enough() {
    let mut created = builder().schema(false).create_memfd().unwrap();
    fill(&mut created);
    let (_producer, region) = attach(created);
    let kinds = 6 + RecordKind::OPTIONAL.len() - 1;
    let len = schema::HEADER_LEN + kinds * schema::record::LEN;
    assert_eq!(region.geometry().schema().size, len);
    assert_reads(&region);
    passes(&region);
    // Nor is there one where nothing has to be announced.
    let plain = RegionBuilder::new("p").schema(false).plan().unwrap();
    assert_eq!(plain.geometry().schema().size, 0);
}

#[test]
fn an_older_revision_has_none() {
    let revision_4 = || RegionBuilder::new("old").revision(4).blks(1).nets(1);
    let own = [GroupSpec { name: "own", fields: &[NUMBER] }];
    for (builder, part) in [
        (revision_4().vcpu_histograms(true), "distributions of vCPUs"),
        (revision_4().blk_histograms(true), "distributions of block devices"),
        (revision_4().blk_queues(1), "shares of block devices"),
        (revision_4().net_queues(1), "shares of interfaces"),
        (revision_4().labels([]).unwrap(), "labels"),
        (revision_4().arch_blk(&own).unwrap(), "arch slots of block devices"),
        (revision_4().arch_net(&own).unwrap(), "arch slots of interfaces"),
    ] {
        let error = builder.plan().unwrap_err();
        assert_eq!(error, PlanError::NotInRevision { revision: 4, what: part });
    }
}

#[test]
fn a_table_that_breaks_a_rule_spoils_only_what_it_announces() {
    let mut created = builder().create_memfd().unwrap();
    fill(&mut created);
    let producer = created.unpublished.publish().unwrap();
    let file = File::from(producer.as_fd().unwrap().try_clone_to_owned().unwrap());
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let schema = u32::from_le_bytes(bytes[dom::SCHEMA_OFFS..][..4].try_into().unwrap()) as usize;
    // The seventh entry is that of the shares of block devices.
    let at = schema + schema::HEADER_LEN + 6 * schema::record::LEN - schema::record::LEN;
    assert_eq!(bytes[at], 7);
    let at = at + schema::record::STRIDE;
    bytes[at..at + 4].copy_from_slice(&1984u32.to_le_bytes());
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), &bytes).unwrap();
    let region = Region::open(other.path()).unwrap();
    let Err(RecordTableError::Record { rule, kind, offset, found, .. }) = region.beyond_header()
    else {
        panic!("accepted");
    };
    assert_eq!((rule, kind, offset, found), (Rule::I05, RecordKind::BlkQueue, at, 1984));
    assert!(region.blk_queue(0).is_none() && region.vcpu_hist(0).is_none());
    assert_eq!(region.labels().unwrap(), Reading::Unknown);
    assert_eq!((region.vcpus().len(), region.blks().len()), (3, 2));
    let mapped = MappedFile::open(other.path()).unwrap();
    let report = check(&Subject::new(mapped.mem()), &Options::default()).unwrap();
    let broken: Vec<_> = report.rules.iter().filter(|rule| rule.failed()).collect();
    assert_eq!((broken.len(), broken[0].id), (1, "I05"), "{report}");
}

#[test]
fn a_region_is_continued_with_its_distributions_and_shares() {
    let mut created = builder().create_memfd().unwrap();
    fill(&mut created);
    created.blk_queues[2].renew();
    let (producer, before) = attach(created);
    let memfd = producer.as_fd().unwrap().try_clone_to_owned().unwrap();
    let next = builder().continue_memfd(&memfd).unwrap();
    assert!(next.unpublished.continues());
    let (_producer, region) = attach(next);
    assert_eq!(region.header().incarnation, before.header().incarnation);
    let wait = region.vcpu_hist(1).unwrap().read::<Wait>().unwrap();
    assert_eq!(wait.active().unwrap().max().value(), Some(1001));
    let share = |i| region.blk_queue(i).unwrap().read::<BlkQueueIo>().unwrap();
    assert_eq!(share(3).active().unwrap().group.0.rd_req.value(), Some(30));
    assert_eq!(share(2), Reading::Inactive);
    // Labels are constant within an incarnation.
    let other = builder().labels([("tenant", "none")]).unwrap();
    assert!(!other.continue_memfd(&memfd).unwrap().unpublished.continues());
}

#[test]
fn a_private_kind_is_shown_by_the_name_that_the_schema_gives_it() {
    let mut created = builder().create_memfd().unwrap();
    fill(&mut created);
    let producer = created.unpublished.publish().unwrap();
    let file = File::from(producer.as_fd().unwrap().try_clone_to_owned().unwrap());
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let schema = word(&bytes, dom::SCHEMA_OFFS) as usize;
    // The labels become a kind of nobody else's: their entry is the last, and so is their group's.
    let private = schema::FIRST_PRIVATE + 5;
    let nr = |at: usize| word(&bytes, schema + at) as usize;
    let records = schema + schema::HEADER_LEN;
    let groups = records + nr(schema::head::NR_RECORDS) * schema::record::LEN;
    let end = groups + nr(schema::head::NR_GROUPS) * schema::group::LEN;
    for at in [groups - schema::record::LEN, end - schema::group::LEN] {
        assert_eq!(word(&bytes, at), RecordKind::Labels.number());
        bytes[at..at + 4].copy_from_slice(&private.to_le_bytes());
    }
    let name = bytes.windows(7).rposition(|text| text == b"labels\0").unwrap();
    bytes[name..name + 6].copy_from_slice(b"notice");
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), &bytes).unwrap();
    let region = Region::open(other.path()).unwrap();
    assert_eq!(region.beyond_header(), Ok(()));
    assert_eq!(region.labels().unwrap(), Reading::Unknown);
    assert!(region.vcpu_hist(0).is_some(), "the kinds that are known");
    let copy = region.copy_schema().unwrap();
    let schema = Schema::parse(&copy).unwrap();
    let record = schema.records().find(|record| record.kind == private).unwrap();
    assert_eq!(record.name, "notice");
    let group = schema.groups().find(|group| group.record == private).unwrap();
    let mut reader = region.schema_reader();
    let sample = reader.read(&record, 0, &group).unwrap().active().unwrap();
    assert_eq!(sample.words[0].to_le_bytes(), *b"tenant=a");
    passes(&region);
}
