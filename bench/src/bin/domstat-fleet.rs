//! Publishes many made-up domains and keeps them moving, to load what reads them: every group of
//! revision 4 is produced, and those of revision 5 and distributions on demand.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use domstat_consumer::clock::now;
use domstat_layout::descriptor::Kind;
use domstat_layout::latest::{
    Balloon, BlkDiscards, BlkExtent, BlkFailures, BlkIdentity, BlkIo, BlkIoTimes, BlkJob,
    BlkLimits, BlkQueue, Cpu, Exits, FlLatency, Limits, Lineage, Memory, Migration, NetIdentity,
    NetIo, NetLimits, Pressure, RdLatency, RdSize, RunState, Sched, Status, Threads, Wait,
    WrLatency, WrSize,
};
use domstat_layout::{Clock, Group, HistogramGroup, Name, Ns, Word};
use domstat_producer::{
    Announcement, BlkHistWriter, BlkWriter, DomWriter, NetWriter, Region, RegionBuilder,
    RunstateTracker, VcpuHistWriter, VcpuWriter,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Publish many made-up domains
#[derive(Parser)]
struct Args {
    /// Where they are announced
    #[arg(long, env = "DOMSTAT_DIR", default_value = "/run/domstat")]
    dir: PathBuf,
    /// How many
    #[arg(long, default_value = "1000")]
    domains: u64,
    /// vCPUs of each
    #[arg(long, default_value = "8")]
    vcpus: u32,
    /// Block devices of each
    #[arg(long, default_value = "1")]
    blks: u32,
    /// Network interfaces of each
    #[arg(long, default_value = "1")]
    nets: u32,
    /// How often a second every group of every domain is written
    #[arg(long, default_value = "10")]
    rate: u32,
    /// Produce the small groups of revision 5, too: status, limits, queues and others
    #[arg(long)]
    causes: bool,
    /// Produce distributions of waits, latencies and sizes, too
    #[arg(long)]
    histograms: bool,
    /// End after this many seconds
    #[arg(long, default_value = "3600")]
    seconds: u64,
}

/// One domain and all that writes it.
struct Domain {
    number: u64,
    causes: bool,
    dom: DomWriter,
    vcpus: Vec<(VcpuWriter, RunstateTracker)>,
    blks: Vec<BlkWriter>,
    nets: Vec<NetWriter>,
    vcpu_hists: Vec<VcpuHistWriter>,
    blk_hists: Vec<BlkHistWriter>,
    _announcement: Announcement,
    _region: Region,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let mut domains = (0..args.domains).map(|n| domain(n, &args)).collect::<Result<Vec<_>, _>>()?;
    println!("{} domains in {}", domains.len(), args.dir.display());
    let begin = Instant::now();
    let step = Duration::from_secs(1) / args.rate.max(1);
    let mut round = 0u64;
    while begin.elapsed() < Duration::from_secs(args.seconds) {
        round += 1;
        for domain in &mut domains {
            domain.write(round, clock());
        }
        std::thread::sleep((step * u32::try_from(round)?).saturating_sub(begin.elapsed()));
    }
    Ok(())
}

fn clock() -> Ns {
    now(Clock::Monotonic).unwrap_or_default()
}

fn domain(number: u64, args: &Args) -> Result<Domain, Box<dyn std::error::Error>> {
    let name = format!("vm{number:05}");
    let start = clock();
    let mut uuid = [0x5a; 16];
    uuid[8..].copy_from_slice(&number.to_be_bytes());
    let created = RegionBuilder::new(&name)
        .domid(number)
        .uuid(uuid)
        .created(start)
        .vcpus(args.vcpus)
        .blks(args.blks)
        .nets(args.nets)
        .vcpu_histograms(args.histograms)
        .blk_histograms(args.histograms)
        .clock(Clock::Monotonic)
        .create_memfd()?;
    let tracker = |vcpu| (vcpu, RunstateTracker::new(RunState::Running, start));
    let mut vcpus: Vec<_> = created.vcpus.into_iter().map(tracker).collect();
    for (vcpu, tracker) in &mut vcpus {
        vcpu.write(tracker.runstate(), start);
    }
    let region = created.unpublished.publish()?;
    let announcement = region.announce(&args.dir, &name)?;
    let (mut blks, mut nets) = (created.blks, created.nets);
    for (i, blk) in blks.iter_mut().enumerate() {
        blk.write(&BlkIdentity { name: Name::new(&format!("vd{}", letter(i))) }, start);
    }
    for (i, net) in nets.iter_mut().enumerate() {
        net.write(&NetIdentity { name: Name::new(&format!("vnet{i}")) }, start);
    }
    let mut domain = Domain {
        number,
        causes: args.causes,
        dom: created.dom,
        vcpus,
        blks,
        nets,
        vcpu_hists: created.vcpu_hists,
        blk_hists: created.blk_hists,
        _announcement: announcement,
        _region: region,
    };
    domain.write(0, start);
    Ok(domain)
}

fn letter(i: usize) -> char {
    char::from(b'a' + u8::try_from(i % 26).unwrap_or(0))
}

/// A group of growing numbers; states are the second of their names.
fn filled<G: Group>(at: u64) -> G {
    let words = G::DESC.fields.iter().zip(1u64..).map(|(field, n)| match field.kind {
        Kind::State(_) => 1,
        Kind::Cumulative => at * 1_000_000 / n,
        _ => n << 20,
    });
    let bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
    G::read_from_bytes(&bytes).unwrap_or(G::NOT_PRODUCED)
}

/// A distribution after so many rounds, in each of which a value of every size was recorded.
fn recorded<G: HistogramGroup>(rounds: u64) -> G {
    let mut group = G::EMPTY;
    (10..28).for_each(|bits| (0..rounds.min(100)).for_each(|_| group.record(1 << bits)));
    group
}

fn words<const N: usize>(each: impl Fn(u64) -> u64) -> [Word; N] {
    let mut i = 0;
    [Word::NOT_PRODUCED; N].map(|_| {
        i += 1;
        Word::from(each(i))
    })
}

impl Domain {
    fn write(&mut self, round: u64, now: Ns) {
        let pace = 1 + self.number % 7;
        let [time_ns, user_ns, system_ns, vcpus_ns] = words(|i| round * pace * 30_000_000 / i);
        self.dom.write(&Cpu { time_ns, user_ns, system_ns, vcpus_ns }, now);
        let gib = 1 << 30;
        let memory = Memory {
            current_bytes: Word::from(4 * gib),
            maximum_bytes: Word::from(8 * gib),
            rss_bytes: Word::from(gib + (round + self.number) % 64 * (16 << 20)),
            usable_bytes: Word::from(2 * gib),
            major_faults: Word::from(round),
            minor_faults: Word::from(round * 100),
            ..Memory::NOT_PRODUCED
        };
        self.dom.write(&memory, now);
        for (i, (vcpu, tracker)) in (0u64..).zip(&mut self.vcpus) {
            let state = match (round + i + self.number) % 8 {
                0..=2 => RunState::Running,
                3 => RunState::Runnable,
                _ => RunState::Blocked,
            };
            vcpu.write(tracker.enter(state, now), now);
            let [time_ns, wait_ns, delay_ns, timeslices] = words(|n| round * pace * 3_000_000 / n);
            vcpu.write(&Sched { time_ns, wait_ns, delay_ns, timeslices }, now);
            let [io, mmio, halt, irq, signal, hypercalls, insn] = words(|n| round * pace * 10 / n);
            let exits = Exits {
                exits: Word::from(round * pace * 40),
                io_exits: io,
                mmio_exits: mmio,
                halt_exits: halt,
                irq_exits: irq,
                signal_exits: signal,
                hypercalls,
                insn_emulation: insn,
            };
            vcpu.write(&exits, now);
        }
        self.devices(round * pace, now);
        if self.causes {
            self.write_causes(round * pace, now);
        }
        self.write_histograms(round, now);
    }

    fn write_histograms(&mut self, round: u64, now: Ns) {
        for hist in &mut self.vcpu_hists {
            hist.write(&recorded::<Wait>(round), now);
        }
        for hist in &mut self.blk_hists {
            hist.write(&recorded::<RdLatency>(round), now);
            hist.write(&recorded::<WrLatency>(round), now);
            hist.write(&recorded::<FlLatency>(round), now);
            hist.write(&recorded::<RdSize>(round), now);
            hist.write(&recorded::<WrSize>(round), now);
        }
    }

    fn write_causes(&mut self, at: u64, now: Ns) {
        let status = Status {
            state: Word::from(0),
            reason: Word::from(1),
            since_ns: Word::from(1),
            device: Word::NOT_PRODUCED,
        };
        self.dom.write(&status, now);
        self.dom.write(&filled::<Threads>(at), now);
        self.dom.write(&filled::<Limits>(at), now);
        self.dom.write(&filled::<Pressure>(at), now);
        self.dom.write(&filled::<Balloon>(at), now);
        self.dom.write(&filled::<Migration>(at), now);
        self.dom.write(&filled::<Lineage>(0), now);
        for blk in &mut self.blks {
            blk.write(&filled::<BlkQueue>(at), now);
            blk.write(&filled::<BlkDiscards>(at), now);
            blk.write(&filled::<BlkFailures>(at), now);
            blk.write(&filled::<BlkLimits>(at), now);
        }
        for net in &mut self.nets {
            net.write(&filled::<NetLimits>(at), now);
        }
    }

    fn devices(&mut self, at: u64, now: Ns) {
        for blk in &mut self.blks {
            let [rd_req, rd_bytes, wr_req, wr_bytes] = words(|n| at * 4096 / n);
            let (errs, in_flight) = (Word::from(0), Word::from(at % 32));
            blk.write(&BlkIo { rd_req, rd_bytes, wr_req, wr_bytes, errs, in_flight }, now);
            let [rd_total_ns, wr_total_ns, flush_req, flush_total_ns] = words(|n| at * 900_000 / n);
            let times = BlkIoTimes { rd_total_ns, wr_total_ns, flush_req, flush_total_ns };
            blk.write(&times, now);
            let size = 20u64 << 30;
            let extent = BlkExtent {
                allocation_bytes: Word::from(at * 65_536 % size),
                capacity_bytes: Word::from(size),
                physical_bytes: Word::from(size),
                threshold_bytes: Word::from(size / 10 * 9),
                threshold_events: Word::from(0),
                threshold_excess_bytes: Word::NOT_PRODUCED,
            };
            blk.write(&extent, now);
            let job = BlkJob {
                kind: Word::from(2),
                state: Word::from(1),
                cur_bytes: Word::from(at * 1_048_576 % size),
                end_bytes: Word::from(size),
                limit_bytes: Word::from(0),
                ended: Word::from(0),
            };
            blk.write(&job, now);
        }
        for net in &mut self.nets {
            let [rx_bytes, rx_packets, rx_errs, rx_drop] = words(|n| at * 1500 / n.pow(4));
            let [tx_bytes, tx_packets, tx_errs, tx_drop] = words(|n| at * 700 / n.pow(4));
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
            net.write(&io, now);
        }
    }
}
