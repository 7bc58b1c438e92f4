//! A domain of the test's own, with every group produced.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use domstat_consumer::clock::now;
use domstat_layout::latest::{
    Balloon, BlkExtent, BlkFailures, BlkIdentity, BlkIo, BlkIoTimes, BlkJob, BlkLimits, BlkQueue,
    Cpu, Exits, Limits, Memory, Migration, NetIdentity, NetIo, Pressure, RdLatency, RunState,
    Runstate, Sched, Status, Threads, Wait, WrLatency,
};
use domstat_layout::{Clock, Group, HistogramGroup, Name, Ns, Word};
use domstat_producer::{
    Announcement, BlkHistWriter, BlkWriter, Created, DomWriter, NetWriter, Region, RegionBuilder,
    RunstateTracker, VcpuHistWriter, VcpuWriter,
};

pub(crate) const UUID: [u8; 16] = [0xab; 16];
pub(crate) const UUID_TEXT: &str = "abababab-abab-abab-abab-abababababab";

/// Writes until it is dropped.
pub(crate) struct MadeUp {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    // The entry goes before the region.
    _announcement: Announcement,
    _region: Region,
}

/// A domain called `name` of two vCPUs, a disk and a network interface, announced as `entry`.
pub(crate) fn builder(name: &str) -> RegionBuilder {
    RegionBuilder::new(name).domid(7).uuid(UUID).vcpus(2).blks(1).nets(1).clock(Clock::Monotonic)
}

/// Stopped because the disk is full.
pub(crate) const IO_ERROR: [u64; 2] = [7, 8];
/// Its VMM does not answer.
pub(crate) const HUNG: [u64; 2] = [8, 11];

impl MadeUp {
    /// It runs.
    pub(crate) fn start(dir: &Path, entry: &str, name: &str) -> Self {
        Self::in_status(dir, entry, name, [0, 1])
    }

    /// Its status has these numbers for state and reason.
    pub(crate) fn in_status(dir: &Path, entry: &str, name: &str, status: [u64; 2]) -> Self {
        let builder = builder(name).vcpu_histograms(true).blk_histograms(true);
        let builder = builder.labels([("tenant", "acme"), ("zone.a", "1")]).unwrap();
        let created = builder.create_memfd().unwrap();
        let Created { unpublished, dom, vcpus, blks, nets, vcpu_hists, blk_hists, .. } = created;
        let tracker = |_| RunstateTracker::new(RunState::Running, clock());
        let trackers = (0..2).map(tracker).collect();
        let mut writers = Writers {
            dom,
            vcpus,
            trackers,
            blks,
            nets,
            vcpu_hists,
            blk_hists,
            reads: RdLatency::EMPTY,
            writes: WrLatency::EMPTY,
            waits: Wait::EMPTY,
            status,
        };
        writers.blks[0].write(&BlkIdentity { name: Name::new("vda") }, clock());
        writers.nets[0].write(&NetIdentity { name: Name::new("vnet0") }, clock());
        writers.write(1);
        let region = unpublished.publish().unwrap();
        let announcement = region.announce(dir, entry).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for round in 2.. {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                writers.write(round);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { stop, thread: Some(thread), _announcement: announcement, _region: region }
    }
}

impl Drop for MadeUp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A domain with so many vCPUs that the text of its series is longer than sockets' buffers.
pub(crate) fn many_series(dir: &Path, name: &str) -> (Region, Announcement) {
    let builder = RegionBuilder::new(name).vcpus(20_000).clock(Clock::Monotonic);
    let mut created = builder.create_memfd().unwrap();
    let zero = Word::from(0);
    let runstate = Runstate {
        state: zero,
        state_entry_ns: zero,
        running_ns: zero,
        runnable_ns: zero,
        blocked_ns: zero,
        offline_ns: zero,
    };
    let sched = Sched { time_ns: zero, wait_ns: zero, delay_ns: zero, timeslices: zero };
    for vcpu in &mut created.vcpus {
        vcpu.write(&runstate, Ns(1));
        vcpu.write(&sched, Ns(1));
    }
    let region = created.unpublished.publish().unwrap();
    let announcement = region.announce(dir, name).unwrap();
    (region, announcement)
}

struct Writers {
    dom: DomWriter,
    vcpus: Vec<VcpuWriter>,
    trackers: Vec<RunstateTracker>,
    blks: Vec<BlkWriter>,
    nets: Vec<NetWriter>,
    vcpu_hists: Vec<VcpuHistWriter>,
    blk_hists: Vec<BlkHistWriter>,
    reads: RdLatency,
    writes: WrLatency,
    waits: Wait,
    status: [u64; 2],
}

fn clock() -> Ns {
    now(Clock::Monotonic).unwrap()
}

/// Numbers that grow and differ from each other.
fn grown<const N: usize>(round: u64) -> [Word; N] {
    std::array::from_fn(|i| Word::from(round * (1000 + i as u64)))
}

impl Writers {
    fn write(&mut self, round: u64) {
        let now = clock();
        let [time_ns, user_ns, system_ns, vcpus_ns] = grown(round);
        self.dom.write(&Cpu { time_ns, user_ns, system_ns, vcpus_ns }, now);
        let memory = Memory {
            current_bytes: Word::from(1 << 30),
            rss_bytes: Word::from(1 << 29),
            usable_bytes: Word::from(1 << 28),
            major_faults: Word::from(round),
            minor_faults: Word::from(10 * round),
            swap_in_bytes: Word::SATURATED,
            ..Memory::NOT_PRODUCED
        };
        self.dom.write(&memory, now);
        self.causes(round, now);
        for (i, (vcpu, tracker)) in (0u64..).zip(self.vcpus.iter_mut().zip(&mut self.trackers)) {
            let states = [RunState::Running, RunState::Runnable, RunState::Blocked];
            let state = states[usize::try_from((round + i) % 3).unwrap()];
            vcpu.write(tracker.enter(state, now), now);
            let [time_ns, wait_ns, delay_ns, timeslices] = grown(round);
            vcpu.write(&Sched { time_ns, wait_ns, delay_ns, timeslices }, now);
            let [exits, io_exits, mmio_exits, halt_exits, irq_exits, signal_exits, hypercalls, _] =
                grown(round);
            let exits = Exits {
                exits,
                io_exits,
                mmio_exits,
                halt_exits,
                irq_exits,
                signal_exits,
                hypercalls,
                insn_emulation: Word::NOT_PRODUCED,
            };
            vcpu.write(&exits, now);
        }
        self.distributions(now);
        self.devices(round, now);
    }

    /// Reads of 100 us, and of 1 ms one time in four; writes of 3 ms; waits of 20 us.
    fn distributions(&mut self, now: Ns) {
        for ns in [100_000, 100_000, 100_000, 1_000_000] {
            self.reads.record(ns);
            self.writes.record(3_000_000);
            self.waits.record(20_000);
        }
        self.blk_hists[0].write(&self.reads, now);
        self.blk_hists[0].write(&self.writes, now);
        for vcpu in &mut self.vcpu_hists {
            vcpu.write(&self.waits, now);
        }
    }

    /// What revision 5 says of the domain as a whole.
    fn causes(&mut self, round: u64, now: Ns) {
        let status = Status {
            state: Word::from(self.status[0]),
            reason: Word::from(self.status[1]),
            since_ns: Word::from(now.0),
            device: Word::from((self.status == IO_ERROR).then_some(0)),
        };
        self.dom.write(&status, now);
        let threads = Threads {
            vcpu_ns: Word::from(round * 1_000_000),
            vcpu_threads: Word::from(2),
            other_ns: Word::from(round * 1000),
            other_threads: Word::from(3),
            ..Threads::NOT_PRODUCED
        };
        self.dom.write(&threads, now);
        let limits = Limits {
            cpu_quota_ns: Word::from(150_000_000),
            cpu_period_ns: Word::from(100_000_000),
            cpu_periods: Word::from(10 * round),
            cpu_throttled_periods: Word::from(round),
            cpu_throttled_ns: Word::from(round * 1_000_000),
            memory_max_bytes: Word::from(0),
            ..Limits::NOT_PRODUCED
        };
        self.dom.write(&limits, now);
        let [cpu_some_ns, cpu_full_ns, memory_some_ns, memory_full_ns, io_some_ns, io_full_ns] =
            grown(round);
        let pressure = Pressure {
            cpu_some_ns,
            cpu_full_ns,
            memory_some_ns,
            memory_full_ns,
            io_some_ns,
            io_full_ns,
        };
        self.dom.write(&pressure, now);
        let migration = Migration {
            state: Word::from(2),
            remaining_bytes: Word::from(1 << 20),
            migrations: Word::from(1),
            ..Migration::NOT_PRODUCED
        };
        self.dom.write(&migration, now);
        let balloon = Balloon {
            disk_caches_bytes: Word::from(64 << 20),
            hugetlb_pgalloc: Word::from(3),
            last_update_ns: Word::from(now.0),
            ..Balloon::NOT_PRODUCED
        };
        self.dom.write(&balloon, now);
    }

    fn devices(&mut self, round: u64, now: Ns) {
        let queue = BlkQueue {
            busy_ns: Word::from(round * 10_000_000),
            queued_ns: Word::from(round * 20_000_000),
            submitted: Word::from(2 * round + 2),
            completed: Word::from(2 * round),
        };
        self.blks[0].write(&queue, now);
        let [rd_failed, wr_failed, flush_failed, dis_failed] = grown(round);
        let [rd_invalid, wr_invalid, flush_invalid, dis_invalid] = grown(2 * round);
        let failures = BlkFailures {
            rd_failed,
            wr_failed,
            flush_failed,
            dis_failed,
            rd_invalid,
            wr_invalid,
            flush_invalid,
            dis_invalid,
        };
        self.blks[0].write(&failures, now);
        let limits = BlkLimits {
            limit_req: Word::from(100),
            wr_limit_bytes: Word::from(1 << 20),
            limit_bytes: Word::from(0),
            throttled_ns: Word::from(round * 1_000_000),
            ..BlkLimits::NOT_PRODUCED
        };
        self.blks[0].write(&limits, now);
        let [rd_req, rd_bytes, wr_req, wr_bytes, errs, in_flight] = grown(round);
        let io = BlkIo { rd_req, rd_bytes, wr_req, wr_bytes, errs, in_flight };
        self.blks[0].write(&io, now);
        let [rd_total_ns, wr_total_ns, flush_req, flush_total_ns] = grown(round);
        let times = BlkIoTimes { rd_total_ns, wr_total_ns, flush_req, flush_total_ns };
        self.blks[0].write(&times, now);
        let extent = BlkExtent {
            allocation_bytes: Word::from(900),
            capacity_bytes: Word::from(1000),
            // Crossed at each round, and armed again.
            threshold_bytes: Word::from(950),
            threshold_events: Word::from(round),
            ..BlkExtent::NOT_PRODUCED
        };
        self.blks[0].write(&extent, now);
        let job = BlkJob {
            kind: Word::from(2),
            state: Word::from(1),
            cur_bytes: Word::from(300),
            end_bytes: Word::from(1000),
            limit_bytes: Word::from(0),
            ended: Word::from(0),
        };
        self.blks[0].write(&job, now);
        let [rx_bytes, rx_packets, rx_errs, rx_drop, tx_bytes, tx_packets, tx_errs, tx_drop] =
            grown(round);
        let io = NetIo {
            rx_bytes,
            rx_packets,
            rx_errs,
            rx_drop,
            tx_bytes,
            tx_packets,
            tx_errs,
            tx_drop,
        };
        self.nets[0].write(&io, now);
    }
}
