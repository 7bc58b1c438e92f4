use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;
use crate::kvm::{DiskLoad, KvmOptions, KvmSource};
use crate::skip;
use crate::{Devices, Source};
use domstat_layout::latest::{BlkIo, BlkIoTimes, BlkQueue, RdLatency};
use domstat_layout::sink::{BlkSink, DomSink, NoSink, VcpuSink};
use domstat_layout::{
    BlkGroup, BlkHistGroup, BlkQueueGroup, DomGroup, Group, HistogramGroup, Ns, Share, VcpuGroup,
};

/// Ports of a device whose queues nobody serves.
fn ports() -> (Ports, Arc<[Queue; NR_QUEUES]>, Arc<VcpuShared>) {
    let queues: Arc<[Queue; NR_QUEUES]> = Arc::default();
    (Ports::new(Arc::clone(&queues)), queues, Arc::new(VcpuShared::new(None)))
}

fn thread(queues: &Arc<[Queue; NR_QUEUES]>, index: usize, file: &Arc<File>) -> QueueThread<NoSink> {
    let (queues, file) = (Arc::clone(queues), Arc::clone(file));
    let books = Books::new(now(Clock::Monotonic));
    QueueThread { queues, index, file, share: None, books }
}

#[test]
fn what_is_written_is_read_again() {
    let (mut ports, queues, vcpu) = ports();
    let file = Arc::new(file().unwrap());
    ports.write(BLOCK, &7u16.to_le_bytes(), &vcpu);
    ports.write(DATA, &[1, 2], &vcpu);
    ports.write(DATA, &[3], &vcpu);
    ports.write(COMMAND, &[0x01], &vcpu);
    let mut byte = [0];
    ports.read(COMMAND, &mut byte, &vcpu);
    assert_eq!(byte, [1], "in flight");
    queues[0].stop();
    thread(&queues, 0, &file).run();
    ports.write(COMMAND, &[0x10], &vcpu);
    queues[1].stop();
    thread(&queues, 1, &file).run();
    ports.read(COMMAND, &mut byte, &vcpu);
    assert_eq!(byte, [0], "both have ended");
    let mut read = [0; 4];
    ports.read(DATA, &mut read, &vcpu);
    assert_eq!(read, [1, 2, 3, 0]);
    let [first, second] = [0, 1].map(|index: usize| queues[index].totals());
    assert_eq!((first.io.wr_req.value(), second.io.rd_req.value()), (Some(1), Some(1)));
    assert_eq!(first.io.wr_bytes.value(), Some(BLOCK_LEN));
}

#[test]
fn a_guest_cannot_ask_for_too_much() {
    let (mut ports, queues, vcpu) = ports();
    ports.write(BLOCK, &NR_BLOCKS.to_le_bytes(), &vcpu);
    for command in 0..=u8::MAX {
        ports.write(COMMAND, &[command], &vcpu);
    }
    ports.write(DATA, &[0; 2 * BLOCK_BYTES], &vcpu);
    ports.write(COMMAND, &[], &vcpu);
    ports.write(0x99, &[1], &vcpu);
    queues.iter().for_each(Queue::stop);
    let file = Arc::new(file().unwrap());
    (0..NR_QUEUES).for_each(|index| thread(&queues, index, &file).run());
    // Commands 0 to 7: of what 3 and 7 are nobody knows, and 2 and 6 flush.
    let totals = queues[0].totals();
    let counts = |words: [domstat_layout::Word; 4]| words.map(|word| word.value().unwrap());
    let failures = totals.failures;
    assert_eq!(
        counts([failures.rd_invalid, failures.wr_invalid, totals.io.errs, totals.times.flush_req]),
        [2, 2, 6, 2]
    );
    assert_eq!(totals.queue.completed.value(), Some(u64::from(MAX_IN_FLIGHT)));
    let mut all = [0; 2];
    ports.read(0x99, &mut all, &vcpu);
    assert_eq!(all, [0xff; 2], "nothing listens there");
}

/// The last words of each group, by record and name.
type Words = BTreeMap<(&'static str, &'static str), Vec<u8>>;

#[derive(Clone, Default)]
struct Last(Arc<Mutex<Words>>);

impl Last {
    fn keep<G: Group>(&self, group: &G) {
        let key = (G::DESC.record.name(), G::DESC.name);
        self.0.lock().unwrap().insert(key, group.as_bytes().to_vec());
    }
    fn get<G: Group>(&self) -> G {
        let key = (G::DESC.record.name(), G::DESC.name);
        G::read_from_bytes(&self.0.lock().unwrap()[&key]).unwrap()
    }
}

impl DomSink for Last {
    fn write<G: DomGroup>(&mut self, group: &G, _: Ns) {
        self.keep(group);
    }
    fn deactivate<G: DomGroup>(&mut self) {}
}
impl VcpuSink for Last {
    fn write<G: VcpuGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: VcpuGroup>(&mut self) {}
    fn renew(&mut self) {}
}
impl BlkSink for Last {
    fn write<G: BlkGroup>(&mut self, group: &G, _: Ns) {
        self.keep(group);
    }
    fn write_hist<G: BlkHistGroup>(&mut self, group: &G, _: Ns) {
        self.keep(group);
    }
    fn deactivate<G: BlkGroup>(&mut self) {}
    fn renew(&mut self) {}
}
impl BlkShareSink for Last {
    fn write<G: BlkQueueGroup>(&mut self, group: &G, _: Ns) {
        self.keep(group);
    }
    fn deactivate<G: BlkQueueGroup>(&mut self) {}
    fn renew(&mut self) {}
}

#[test]
fn every_request_of_the_guest_is_counted_once() {
    if let Err(error) = KvmSource::available() {
        return skip::skip("kvm", &error.to_string());
    }
    const TURNS: u16 = 50;
    let options = KvmOptions { disk: DiskLoad::Turns(TURNS), ..KvmOptions::default() };
    let source = KvmSource::new(&options).unwrap();
    let probe = source.probe();
    let nr_vcpus = source.describe().nr_vcpus;
    let of_vm = Last::default();
    let [blk, shares] = [Last::default(), Last::default()];
    let shares = [shares, Last::default()];
    let devices: Devices<Last, NoSink, Last> =
        Devices { blks: vec![blk.clone()], nets: Vec::new(), shares: shares.to_vec() };
    let vcpus = vec![Last::default(); nr_vcpus as usize];
    let mut running = source.start_with_devices(of_vm.clone(), vcpus, devices).unwrap();
    // Two reads, a write and a flush in each turn of each vCPU: two for each queue.
    let each = u64::from(TURNS) * u64::from(nr_vcpus);
    let completed = |index| probe.disk_counts(index).unwrap().completed;
    let began = Instant::now();
    while completed(0) + completed(1) < 4 * each {
        assert!(began.elapsed() < Duration::from_secs(60), "{} of {}", completed(0), 2 * each);
        std::thread::sleep(Duration::from_millis(1));
    }
    // It asks for no more.
    std::thread::sleep(Duration::from_millis(50));
    running.tick().unwrap();
    let (io, times, queue): (BlkIo, BlkIoTimes, BlkQueue) = (blk.get(), blk.get(), blk.get());
    let expected = [2 * each, each, each, 4 * each, 4 * each];
    let found = [io.rd_req, io.wr_req, times.flush_req, queue.submitted, queue.completed];
    assert_eq!(found.map(|word| word.value().unwrap()), expected);
    let latency: RdLatency = blk.get();
    assert_eq!((latency.count(), latency.sum_ns), (io.rd_req, times.rd_total_ns));
    let total = [times.rd_total_ns, times.wr_total_ns, times.flush_total_ns];
    let total: u64 = total.iter().map(|word| word.value().unwrap()).sum();
    assert_eq!(queue.queued_ns.value(), Some(total), "the queue is made of its requests");
    let mut sum = domstat_layout::latest::BlkQueueIo::share(io).whole();
    sum.rd_req = domstat_layout::Word::new(0);
    for share in &shares {
        let share: domstat_layout::latest::BlkQueueIo = share.get();
        sum.rd_req = sum.rd_req.plus(share.0.rd_req);
    }
    assert_eq!(sum, io, "the device is the sum of its shares");
    running.stop();
}
