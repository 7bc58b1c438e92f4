//! Runs the micro-VM for some seconds (first argument, 5 by default) and compares what it
//! published with what the kernel says: `cargo run --release -p domstat-tests --bin
//! domstat-kvm-accounting -- 5`.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domstat_layout::latest::Runstate;
use domstat_layout::sink::{DomSink, VcpuSink};
use domstat_layout::{DomGroup, Group, Ns, VcpuGroup};
use domstat_sources::Source;
use domstat_sources::kvm::{KvmOptions, KvmSource};

/// What was written to one vCPU last and how often, by name of the field.
#[derive(Clone, Default)]
struct Last(Arc<Mutex<(u64, u64, Vec<u64>)>>);

struct Ignored;

impl DomSink for Ignored {
    fn write<G: DomGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: DomGroup>(&mut self) {}
}

impl VcpuSink for Last {
    fn write<G: VcpuGroup>(&mut self, group: &G, now: Ns) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.0 = last.0.saturating_add(1);
        last.1 = now.0;
        let (words, _) = group.as_bytes().as_chunks::<8>();
        last.2 = words.iter().map(|&word| u64::from_le_bytes(word)).collect();
    }
    fn deactivate<G: VcpuGroup>(&mut self) {}
    fn renew(&mut self) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(5), |arg| arg.parse())?;
    let options = KvmOptions { nr_vcpus: 3, ..KvmOptions::default() };
    let source = KvmSource::new(&options)?;
    let probe = source.probe();
    let created = source.describe().created.unwrap_or_default();
    let sinks: Vec<Last> = (0..options.nr_vcpus).map(|_| Last::default()).collect();
    let mut running = source.start(Ignored, sinks.clone())?;
    for _ in 0..seconds {
        std::thread::sleep(Duration::from_secs(1));
        running.tick()?;
    }
    let before_stop = std::time::Instant::now();
    running.stop();
    println!("stopped in {:?}", before_stop.elapsed());
    for (index, sink) in (0u32..).zip(&sinks) {
        let (writes, now, values) = sink.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        println!("vCPU {index}: {writes} writes");
        for (field, value) in Runstate::DESC.fields.iter().zip(&values) {
            println!("  {:<16} {value:>14}", field.name);
        }
        let sum: u64 = values.iter().skip(2).sum();
        println!("  sum - age        {:>14}", i128::from(sum) - i128::from(now - created.0));
        if let Some(counts) = probe.counts(index) {
            let running_ns = values.get(2).copied().unwrap_or(0);
            let error = (running_ns as f64 / counts.cpu_ns as f64 - 1.0) * 100.0;
            println!("  running against thread CPU time: {error:+.3} %");
            println!("  {counts:?}");
        }
        for stat in probe.kvm_stats(index)?.unwrap_or_default() {
            if stat.values.len() == 1 && stat.values != [0] {
                println!("  kvm {:<24} {:?}", stat.name, stat.values);
            }
        }
    }
    Ok(())
}
