//! Prints what each vCPU of a domain did: `read REGION`.

use std::error::Error;

use domstat_consumer::{Reading, Region};
use domstat_layout::latest::Runstate;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: read REGION")?;
    let region = Region::open(path)?;
    for vcpu in region.vcpus() {
        if let Reading::Active(now) = vcpu.read::<Runstate>()? {
            let (ran, waited) = (now.running_ns, now.runnable_ns);
            println!("vCPU {}: ran {ran} ns, waited (in ns): {waited}", vcpu.index());
        }
    }
    Ok(())
}
