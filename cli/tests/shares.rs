//! A disk and an interface that several queues serve: every command shows the sum of their shares,
//! and not what the records of the devices said some time ago.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{output, show, stdout};
use domstat_layout::latest::{
    BlkIdentity, BlkIo, BlkIoTimes, BlkQueueIo, BlkQueueIoTimes, BlkQueueOf, BlkQueueRdLatency,
    NetIdentity, NetIo, NetQueueIo, NetQueueOf, RdLatency,
};
use domstat_layout::{Clock, Group, HistogramGroup, Name, Ns, Share, Word};
use domstat_producer::{
    Announcement, BlkQueueWriter, Created, NetQueueWriter, Region, RegionBuilder,
};
use serde_json::Value;

/// Two queues of a disk and two of an interface. The records of both devices are an hour old.
struct Queues {
    blks: Vec<BlkQueueWriter>,
    nets: Vec<NetQueueWriter>,
    _announcement: Announcement,
    _region: Region,
}

/// Numbers of one queue after so many requests.
fn io(reads: u64) -> BlkIo {
    BlkIo { rd_req: Word::new(reads), rd_bytes: Word::new(reads * 4096), ..BlkIo::NOT_PRODUCED }
}

fn packets(nr: u64) -> NetIo {
    NetIo { rx_packets: Word::new(nr), rx_bytes: Word::new(nr * 1500), ..NetIo::NOT_PRODUCED }
}

fn now() -> Ns {
    domstat_consumer::clock::now(Clock::Monotonic).unwrap()
}

impl Queues {
    fn start(dir: &Path) -> Self {
        let builder = RegionBuilder::new("web1").clock(Clock::Monotonic).blks(1).nets(1);
        let builder = builder.blk_queues(2).net_queues(2).blk_histograms(true);
        let mut created = builder.create_memfd().unwrap();
        let long_ago = Ns(now().0.saturating_sub(3_600_000_000_000));
        created.blks[0].write(&BlkIdentity { name: Name::new("vda") }, long_ago);
        created.blks[0].write(&io(3), long_ago);
        created.nets[0].write(&NetIdentity { name: Name::new("tap0") }, long_ago);
        created.nets[0].write(&packets(4), long_ago);
        created.blk_hists[0].write(&RdLatency::EMPTY, long_ago);
        let Created { unpublished, blk_queues, net_queues, .. } = created;
        let region = unpublished.publish().unwrap();
        let announcement = region.announce(dir, "web1").unwrap();
        let (blks, nets) = (blk_queues, net_queues);
        let mut queues = Self { blks, nets, _announcement: announcement, _region: region };
        queues.write(1);
        let [device, generation] = [Word::new(0); 2];
        let (queue, pid) = (Word::NOT_PRODUCED, Word::NOT_PRODUCED);
        for writer in &mut queues.blks {
            writer.write(&BlkQueueOf { device, generation, queue, pid }, now());
        }
        for writer in &mut queues.nets {
            writer.write(&NetQueueOf { device, generation, queue, pid }, now());
        }
        queues
    }

    /// As after `rounds` rounds, in each of which the first queue completes 30 reads of 1 ms and
    /// receives 10 packets, and the second 12 and 5.
    fn write(&mut self, rounds: u64) {
        for (writer, reads) in self.blks.iter_mut().zip([30, 12]) {
            let mut latency = RdLatency::EMPTY;
            (0..reads).for_each(|_| latency.record(1_000_000));
            let rd_total_ns = Word::new(rounds * reads * 1_000_000);
            let times = BlkIoTimes { rd_total_ns, ..BlkIoTimes::NOT_PRODUCED };
            writer.write(&BlkQueueIo::share(io(rounds * reads)), now());
            writer.write(&BlkQueueIoTimes::share(times), now());
            writer.write(&BlkQueueRdLatency::share(latency), now());
        }
        for (writer, nr) in self.nets.iter_mut().zip([10, 5]) {
            writer.write(&NetQueueIo::share(packets(rounds * nr)), now());
        }
    }
}

#[test]
fn every_command_shows_the_sum() {
    let dir = tempfile::tempdir().unwrap();
    let _queues = Queues::start(dir.path());
    let json = show(dir.path(), "web1");
    let io = &json["blks"][0]["groups"]["io"];
    assert_eq!((&io["fields"]["rd_req"], &io["fields"]["wr_req"]), (&42.into(), &Value::Null));
    assert!(io["age_ns"].as_u64().unwrap() < 1_800_000_000_000, "the age of the sum: {io}");
    assert_eq!(json["nets"][0]["groups"]["io"]["fields"]["rx_packets"], 15);
    let reads = &json["blk_hists"][0]["groups"]["rd_latency"];
    assert_eq!(
        (&reads["fields"]["sum_ns"], &reads["fields"]["ns"][20]),
        (&42_000_000.into(), &42.into())
    );

    let all: Value =
        serde_json::from_slice(&output(dir.path(), &["show", "web1", "--all", "--json"]).stdout)
            .unwrap();
    assert_eq!(all["blk[0]"]["io"]["fields"]["rd_req"]["value"], 42, "{all}");
    assert_eq!(all["net[0]"]["io"]["fields"]["rx_packets"]["value"], 15);
    assert_eq!(all["blk_hist"]["rd_latency"]["fields"]["sum_ns"]["value"], 42_000_000);
    assert_eq!(all["blk_queue[1]"]["io"]["fields"]["rd_req"]["value"], 12, "each share");

    let text = stdout(&output(dir.path(), &["show", "web1"]));
    let row = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("vda")[1..=3], ["168K", "-", "42"], "{text}");
    assert_eq!(row("tap0")[3], "15", "{text}");
    assert!(!text.contains("60m") && text.contains("read p50 <=1.05ms"), "{text}");

    let keys = stdout(&output(dir.path(), &["show", "web1", "--format", "domstats"]));
    for key in [
        "block.0.rd.reqs=42",
        "block.0.rd.times=42000000",
        "net.0.rx.pkts=15",
        "block.0.latency_histogram.read.bin.20.value=42",
    ] {
        assert!(keys.lines().any(|line| line.trim() == key), "{key}\n{keys}");
    }
}

#[test]
fn rates_are_those_of_the_shares() {
    let dir = tempfile::tempdir().unwrap();
    let mut queues = Queues::start(dir.path());
    let stop = AtomicBool::new(false);
    let (top, watched) = std::thread::scope(|scope| {
        scope.spawn(|| {
            for rounds in 2.. {
                queues.write(rounds);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let top = output(dir.path(), &["top", "-b", "--json", "-n", "2", "-d", "0.3"]);
        let watch = ["show", "web1", "--watch", "--interval", "0.3", "--count", "2"];
        let watched = stdout(&output(dir.path(), &watch));
        stop.store(true, Ordering::Relaxed);
        (stdout(&top), watched)
    });
    let last: Value = serde_json::from_str(top.lines().last().unwrap()).unwrap();
    for rate in ["read_bytes_per_second", "received_bytes_per_second"] {
        assert!(last[0][rate].as_f64().is_some_and(|rate| rate > 0.0), "{rate}: {last}");
    }
    let row = watched.lines().rfind(|line| line.starts_with("vda")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    // READ/s, and the mean time of a read in the interval.
    assert!(cells[1] != "-" && cells[1] != "0", "{watched}");
    assert_eq!(cells[4], "1ms", "{watched}");
}
