//! Records whose writer died in mid-update while others of the same region are written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use domstat_consumer::attach::{Limits, Reattached};
use domstat_consumer::fleet::Fleet;
use domstat_consumer::{Attachment, Liveness, ReadError, Reading, Snapshot};
use domstat_layout::latest::{BlkIdentity, BlkIo, Runstate};
use domstat_layout::{Clock, Group, Name, Ns, RecordKind};
use domstat_producer::{BlkWriter, FrameWriters, RegionBuilder, Served, Server, VcpuWriter};
use domstat_tests::runstate;

const LIMITS: Limits = Limits { stalled_after: Duration::from_millis(20), stale_after: None };

fn now() -> Ns {
    domstat_producer::now(Clock::Monotonic).unwrap()
}

fn io(n: u64) -> BlkIo {
    BlkIo { rd_req: n.into(), ..BlkIo::NOT_PRODUCED }
}

/// A domain of which the process that writes the first disk died in the first copy of its counters.
struct Domain {
    socket: PathBuf,
    vcpu: VcpuWriter,
    region: domstat_producer::Region,
    served: Served,
    _server: Server,
    dir: tempfile::TempDir,
}

impl Domain {
    fn publish() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let builder = RegionBuilder::new("web1").vcpus(1).blks(2).clock(Clock::Monotonic);
        let mut created = builder.create_memfd_frames().unwrap();
        let mut vcpu = created.vcpus.remove(0);
        vcpu.write(&runstate(1), now());
        created.blks[1].write(&io(7), now());
        let name = BlkIdentity { name: Name::new("vda") };
        created.blks[0].write(&name, now());
        let frame = created.unpublished.hand_over(created.blks.remove(0)).unwrap();
        let file = File::from(frame.as_fd().try_clone_to_owned().unwrap());
        let (fd, description) = frame.into_parts();
        let mut disk = BlkWriter::from_frame(fd, &description).unwrap();
        disk.write(&io(10), now());
        drop(disk);
        let seq = BlkIo::DESC.offset as u64;
        let mut word = [0; 4];
        file.read_exact_at(&mut word, seq).unwrap();
        file.write_all_at(&(u32::from_le_bytes(word) + 1).to_le_bytes(), seq).unwrap();
        let region = created.unpublished.publish().unwrap();
        let socket = dir.path().join("d.sock");
        let server = Server::builder().bind(&socket).unwrap();
        let served = server.serve(&region, "web1").unwrap();
        Self { socket, vcpu, region, served, _server: server, dir }
    }

    /// The next process: it takes the disk over, and writes this.
    fn start_again(&mut self, n: u64) -> BlkWriter {
        let disk = self.region.take_back::<BlkWriter>(0).unwrap();
        let (fd, description) = self.region.hand_over(disk).unwrap().into_parts();
        let mut disk = BlkWriter::from_frame(fd, &description).unwrap();
        disk.write(&io(n), now());
        assert_eq!(self.region.replace_frames().unwrap(), 1);
        self.served.update(&self.region).unwrap();
        disk
    }
}

/// The reads of a disk.
fn reads(snapshot: &Snapshot, index: u32) -> Result<Option<u64>, ReadError> {
    let io = snapshot.blk(index).unwrap().blk_group::<BlkIo>()?;
    Ok(io.active().and_then(|io| io.rd_req.value()))
}

#[test]
fn the_record_is_stalled_and_the_region_is_live() {
    let mut domain = Domain::publish();
    let attachment = Attachment::connect(&domain.socket, "web1").unwrap().with_limits(LIMITS);
    let mut snapshot = Snapshot::new();
    assert_eq!(attachment.snapshot(&mut snapshot), Liveness::Live);
    assert_eq!(reads(&snapshot, 0), Ok(Some(10)), "one look does not say that a writer died");
    assert!(attachment.stalled().is_empty());

    attachment.settle();
    domain.vcpu.write(&runstate(2), now());
    assert_eq!(attachment.snapshot(&mut snapshot), Liveness::Live);
    let stalled = attachment.stalled();
    assert_eq!(stalled.len(), 1, "{stalled:?}");
    assert_eq!((stalled[0].record, stalled[0].index), (RecordKind::Blk, 0));
    assert_eq!((stalled[0].name().as_str(), stalled[0].writer.group), ("blk 0", Some("io")));
    assert_eq!(snapshot.stalled(), stalled);
    assert!(matches!(reads(&snapshot, 0), Err(ReadError::Stalled(_))), "an old value");
    let name = snapshot.blk(0).unwrap().blk_group::<BlkIdentity>().unwrap().active().unwrap();
    assert_eq!(name.name.as_str(), Some("vda"));
    assert_eq!(reads(&snapshot, 1), Ok(Some(7)));
    let vcpu = snapshot.vcpu(0).unwrap().vcpu_group::<Runstate>();
    assert!(matches!(vcpu, Ok(Reading::Active(_))));

    // Where nothing else is written, the region is stalled.
    let quiet = Attachment::connect(&domain.socket, "web1").unwrap().with_limits(LIMITS);
    quiet.settle();
    assert!(matches!(quiet.liveness(), Liveness::Stalled(writer) if writer.index == Some(0)));
}

#[test]
fn the_memory_of_the_next_process_is_found() {
    let mut domain = Domain::publish();
    let attach = || Attachment::connect(&domain.socket, "web1").unwrap().with_limits(LIMITS);
    let (mut one, other) = (attach().reattaching(), attach());
    let mut fleet = Fleet::new(domain.dir.path()).with_limits(LIMITS);
    let mut snapshot = Snapshot::new();
    fleet.refresh().unwrap();
    for attachment in [&one, &other, fleet.get("web1").unwrap().attachment().unwrap()] {
        attachment.settle();
    }
    // Nothing has taken its place yet.
    domain.vcpu.write(&runstate(2), now());
    assert_eq!(one.refresh().reattached, None);
    fleet.refresh().unwrap();

    let mut disk = domain.start_again(11);
    let since = std::time::Instant::now();
    let mut wait_for = |what: &str, done: &mut dyn FnMut() -> bool| {
        while !done() {
            assert!(since.elapsed() < Duration::from_secs(60), "{what}");
            domain.vcpu.write(&runstate(3), now());
            disk.write(&io(12), now());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait_for("an attachment", &mut || one.refresh().reattached == Some(Reattached::Continued));
    assert_eq!(one.snapshot(&mut snapshot), Liveness::Live);
    assert!(one.stalled().is_empty());
    assert!(reads(&snapshot, 0).unwrap() >= Some(11));
    wait_for("a fleet", &mut || {
        fleet.refresh().unwrap();
        let attachment = fleet.get("web1").unwrap().attachment().unwrap();
        let _ = attachment.snapshot(&mut snapshot);
        reads(&snapshot, 0).is_ok_and(|reads| reads >= Some(11))
    });
    // Who does not look for it reads no old value.
    assert!(matches!(other.snapshot(&mut snapshot), Liveness::Live | Liveness::Stalled(_)));
    assert!(matches!(reads(&snapshot, 0), Err(ReadError::Stalled(_))));
}
