//! Prints how long the vCPUs of every domain of a host ran, once a second: `fleet DIR [SAMPLES]`.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use domstat_consumer::fleet::Fleet;
use domstat_consumer::{Reading, Region, Snapshot};
use domstat_layout::latest::Runstate;

/// The time that all vCPUs ran, up to now; `None` if it is not known of one of them.
fn ran_ns(region: &Region, snapshot: &mut Snapshot) -> Option<u64> {
    region.snapshot(snapshot);
    let mut total = 0;
    for index in 0..snapshot.nr_vcpus() {
        if let Ok(Reading::Active(sample)) = snapshot.vcpu(index)?.vcpu_group::<Runstate>() {
            // The write may be old: `at` adds the time since to the state that the vCPU is in.
            total += sample.at(region.now()?).running_ns.value()?;
        }
    }
    Some(total)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: fleet DIR [SAMPLES]")?;
    let samples = args.next().map_or(Ok(usize::MAX), |n| n.parse())?;
    let mut fleet = Fleet::new(Path::new(&dir));
    let mut snapshot = Snapshot::new(); // reused, so that a pass allocates nothing
    for _ in 0..samples {
        fleet.refresh()?; // attaches to new domains and drops removed ones
        for (name, member) in fleet.iter() {
            match (member.liveness(), member.region()) {
                (Ok(liveness), Ok(region)) if liveness.is_live() => {
                    match ran_ns(region, &mut snapshot) {
                        Some(ran) => println!("{name}: ran {ran} ns"),
                        None => println!("{name}: not known"),
                    }
                }
                (Ok(liveness), _) => println!("{name}: {}", liveness.name()),
                (Err(error), _) => println!("{name}: {error}"),
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}
