//! Publishes a domain with two vCPUs until Ctrl-C.
//!
//! Each vCPU is a thread that computes for a while and then sleeps, as the vCPU of a real VM does.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use domstat_layout::latest::{Memory, RunState};
use domstat_layout::{Clock, Group, Ns, Word};
use domstat_producer::{RegionBuilder, RunstateTracker, VcpuWriter};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn now() -> Ns {
    domstat_producer::now(Clock::Monotonic).unwrap_or_default()
}

/// Stands for the loop that runs a vCPU until the domain ends.
fn run_vcpu(mut vcpu: VcpuWriter, mut tracker: RunstateTracker, work: Duration) {
    loop {
        let at = now();
        vcpu.write(tracker.enter(RunState::Running, at), at);
        let began = Instant::now();
        while began.elapsed() < work {}
        let at = now();
        vcpu.write(tracker.enter(RunState::Blocked, at), at);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let dir = std::env::var_os("DOMSTAT_DIR").map_or("/run/domstat".into(), PathBuf::from);

    let builder = RegionBuilder::new("hello").vcpus(2).clock(Clock::Monotonic);
    let mut created = builder.created(now()).create_memfd()?;

    // Fields that the producer does not know stay "not produced", which is not 0.
    let memory = Memory { current_bytes: Word::from(1 << 30), ..Memory::NOT_PRODUCED };
    created.dom.write(&memory, now());
    let mut trackers = Vec::new();
    for vcpu in &mut created.vcpus {
        // A thread does not see when it waits for a CPU: that time is not produced either.
        let seen = [RunState::Running, RunState::Blocked];
        let tracker = RunstateTracker::new(RunState::Blocked, now()).seeing(&seen);
        vcpu.write(tracker.runstate(), now());
        trackers.push(tracker);
    }

    // From here on readers can map the region, and find it in the directory.
    let published = created.unpublished.publish_as(&dir, "hello")?;

    // Each thread owns the writer of its vCPU.
    for ((vcpu, tracker), load) in created.vcpus.into_iter().zip(trackers).zip([10, 40]) {
        std::thread::spawn(move || run_vcpu(vcpu, tracker, Duration::from_millis(load)));
    }
    println!("publishing hello in {}; Ctrl-C ends it", dir.display());
    signals.forever().next();
    published.retire(); // readers see that the domain has ended
    Ok(())
}
