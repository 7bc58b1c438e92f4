use std::time::Instant;

use domstat_layout::latest::{Exits, Runstate};
use domstat_layout::runstate_estimator::RUN_AHEAD_NS;
use domstat_layout::{DomGroup, HistogramGroup, VcpuGroup, VcpuHistGroup};

use super::*;
use crate::skip;

/// A sink that keeps the last runstate and the last exits.
#[derive(Clone, Default)]
struct Last(Arc<std::sync::Mutex<[Vec<u64>; 2]>>);

impl Last {
    fn field(&self, index: usize) -> u64 {
        let [runstate, _] = &*self.0.lock().unwrap();
        runstate[index]
    }

    /// The fields of the exits, in the layout's order.
    fn exits(&self) -> Vec<Option<u64>> {
        let [_, exits] = &*self.0.lock().unwrap();
        exits.iter().map(|&word| Word::from_raw(word).value()).collect()
    }
}

struct Ignores;

impl DomSink for Ignores {
    fn write<G: DomGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: DomGroup>(&mut self) {}
}

impl VcpuSink for Last {
    fn write<G: VcpuGroup>(&mut self, group: &G, _: Ns) {
        assert!([Runstate::DESC, Exits::DESC].contains(&G::DESC));
        let (words, _) = group.as_bytes().as_chunks::<8>();
        let at = usize::from(G::DESC == Exits::DESC);
        self.0.lock().unwrap()[at] = words.iter().map(|&word| u64::from_le_bytes(word)).collect();
    }
    fn deactivate<G: VcpuGroup>(&mut self) {}
    fn renew(&mut self) {}
}

/// Without KVM there is nothing to test, unless it is required.
fn skipped() -> bool {
    let Err(error) = KvmSource::available() else { return false };
    skip::skip("kvm", &error.to_string());
    true
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn parameters_out_of_range_are_refused() {
    if skipped() {
        return;
    }
    let good = KvmOptions::default();
    for bad in [
        KvmOptions { nr_vcpus: 0, ..good.clone() },
        KvmOptions { nr_vcpus: u32::MAX, ..good.clone() },
        KvmOptions { name: String::new(), ..good.clone() },
        KvmOptions { interval: Duration::ZERO, ..good },
    ] {
        let error = KvmSource::new(&bad).err().unwrap();
        assert!(matches!(error, SourceError::BadParameter { .. }), "{error}");
    }
}

#[test]
fn what_kvm_counts_and_what_the_vmm_saw_agree() {
    if skipped() {
        return;
    }
    let source = KvmSource::new(&KvmOptions::default()).unwrap();
    let probe = source.probe();
    assert_eq!(probe.counts(0), Some(VcpuCounts::default()));
    assert_eq!(probe.counts(2), None);
    let sinks = [Last::default(), Last::default()];
    let running = source.start(Ignores, sinks.to_vec()).unwrap();
    wait_until(|| {
        probe.kick(1);
        let [busy, idle] = [0, 1].map(|index| probe.counts(index).unwrap());
        busy.io_exits > 3 && idle.hlt_exits > 3
    });
    running.stop();
    let [busy, idle] = [0, 1].map(|index| probe.counts(index).unwrap());
    assert_eq!(busy.hlt_exits, 0);
    assert_ne!(busy.tid, idle.tid);
    assert_eq!([0, 1].map(|index| sinks[index].field(0)), [3, 3], "offline in the end");
    let exits = sinks[1].exits();
    let counted = [idle.io_exits, idle.hlt_exits, idle.intr_exits].map(Some);
    assert_eq!([1, 3, 5].map(|index| exits[index]), counted, "published in the end");
    let Some(stats) = probe.kvm_stats(1).unwrap() else {
        assert_eq!([0, 2, 4].map(|index| exits[index]), [None; 3]);
        return println!("no KVM statistics to compare with");
    };
    let of_kvm = |name| stats.iter().find(|stat| stat.name == name).map(|stat| stat.values[0]);
    assert_eq!(of_kvm("halt_exits").unwrap_or(idle.hlt_exits), idle.hlt_exits);
    let names = [(0, "exits"), (2, "mmio_exits"), (4, "irq_exits"), (7, "insn_emulation")];
    for (index, name) in names {
        assert_eq!(exits[index], of_kvm(name), "{name}");
    }
    assert!(exits[0].is_none_or(|exits| exits > 0));
}

#[test]
fn halts_that_stay_in_the_kernel_are_blocked_time() {
    if skipped() {
        return;
    }
    let options = KvmOptions { kernel_irqchip: true, ..KvmOptions::default() };
    let source = KvmSource::new(&options).unwrap();
    let probe = source.probe();
    let sinks = [Last::default(), Last::default()];
    let running = source.start(Ignores, sinks.to_vec()).unwrap();
    let [blocked, running_ns, state] = [4, 2, 0];
    let begin = Instant::now();
    wait_until(|| {
        let [busy, idle] = [0, 1].map(|index| probe.counts(index).unwrap());
        let halted_ns = sinks[1].field(blocked);
        busy.io_exits > 3 && idle.io_exits > 3 && sinks[0].field(running_ns) > 0 && halted_ns > 0
    });
    running.stop();
    let counts = probe.counts(1).unwrap();
    assert_eq!(counts.hlt_exits, 0, "its timer woke it, and not this VMM");
    assert!(sinks[1].field(running_ns) <= counts.cpu_ns + RUN_AHEAD_NS, "no more than the books");
    assert!(u128::from(sinks[1].field(blocked)) < begin.elapsed().as_nanos());
    assert_eq!([0, 1].map(|index| sinks[index].field(state)), [3, 3], "offline in the end");
}

#[test]
fn a_vcpu_that_fails_is_offline_and_the_next_tick_says_so() {
    if skipped() {
        return;
    }
    let source = KvmSource::new(&KvmOptions::default()).unwrap();
    // There is no memory where it is to fetch its first instruction.
    let mut sregs = source.vcpus[1].fd().get_sregs().unwrap();
    sregs.cs.base = 1 << 24;
    source.vcpus[1].fd().set_sregs(&sregs).unwrap();
    let sinks = [Last::default(), Last::default()];
    let mut running = source.start(Ignores, sinks.to_vec()).unwrap();
    let mut result = running.tick();
    wait_until(|| {
        if result.is_ok() {
            result = running.tick();
        }
        result.is_err()
    });
    let error = result.unwrap_err();
    assert!(error.to_string().contains("run vCPU 1 of micro-vm"), "{error}");
    assert_eq!([0, 1].map(|index| sinks[index].field(0)), [3, 3]);
    assert_eq!(running.tick().unwrap(), Progress::Ended, "nothing runs any more");
}

#[test]
fn a_vcpu_that_never_exits_is_brought_up_to_date_and_can_be_stopped() {
    if skipped() {
        return;
    }
    let options = KvmOptions { nr_vcpus: 1, ..KvmOptions::default() };
    let source = KvmSource::new(&options).unwrap();
    let mut regs = source.vcpus[0].fd().get_regs().unwrap();
    regs.rip = program::STUCK;
    source.vcpus[0].fd().set_regs(&regs).unwrap();
    let (probe, sink) = (source.probe(), Last::default());
    let running = source.start(Ignores, vec![sink.clone()]).unwrap();
    wait_until(|| sink.field(0) == 0);
    let before = sink.field(2);
    wait_until(|| sink.field(2) > before);
    running.stop();
    let counts = probe.counts(0).unwrap();
    assert!(counts.io_exits == 0 && counts.intr_exits > 0, "{counts:?}");
}

/// A sink that checks that a vCPU's waits sum to its time in `runnable`, whenever it runs.
#[derive(Clone, Default)]
struct Waiting(Arc<std::sync::Mutex<WaitingState>>);

#[derive(Default)]
struct WaitingState {
    waits: u64,
    sum_ns: u64,
    /// Time in `runnable` of a runstate that was written when it began to run.
    runnable_ns: Option<u64>,
    wrong: Vec<(u64, u64)>,
}

impl VcpuSink for Waiting {
    fn write<G: VcpuGroup>(&mut self, group: &G, _: Ns) {
        if G::DESC != Runstate::DESC {
            return;
        }
        let (words, _) = group.as_bytes().as_chunks::<8>();
        let mut state = self.0.lock().unwrap();
        let sum_ns = state.sum_ns;
        let before = state.runnable_ns.take();
        state.wrong.extend(before.filter(|ns| *ns != sum_ns).map(|ns| (ns, sum_ns)));
        let [state_of_vcpu, runnable] = [0, 3].map(|index| u64::from_le_bytes(words[index]));
        state.runnable_ns = (state_of_vcpu == 0).then_some(runnable);
    }
    fn record<G: VcpuHistGroup + HistogramGroup>(&mut self, value: u64, _: Ns) {
        let mut state = self.0.lock().unwrap();
        state.waits += 1;
        state.sum_ns += value;
    }
    fn deactivate<G: VcpuGroup>(&mut self) {}
    fn renew(&mut self) {}
}

#[test]
fn waits_sum_to_the_time_in_runnable() {
    if skipped() {
        return;
    }
    let source = KvmSource::new(&KvmOptions::default()).unwrap();
    let sinks = [Waiting::default(), Waiting::default()];
    let running = source.start(Ignores, sinks.to_vec()).unwrap();
    // The second halts, and waits for a moment at least whenever it is woken.
    wait_until(|| sinks[1].0.lock().unwrap().waits > 20);
    running.stop();
    for sink in &sinks {
        assert_eq!(sink.0.lock().unwrap().wrong, []);
    }
}
