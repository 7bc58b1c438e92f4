//! A producer without the default features: creates, publishes, announces and writes a region, and
//! retires it when its input ends.

use std::error::Error;
use std::io::Read;
use std::path::PathBuf;

use domstat_layout::latest::{BlkIo, RunState};
use domstat_layout::{Clock, Group, Word};
use domstat_producer::{RegionBuilder, RunstateTracker, now};

fn main() -> Result<(), Box<dyn Error>> {
    let dir: PathBuf = std::env::args_os().nth(1).ok_or("a directory is needed")?.into();
    let now = || now(Clock::Monotonic).unwrap_or_default();
    let builder = RegionBuilder::new("slim").vcpus(1).blks(1).clock(Clock::Monotonic);
    let mut created = builder.create_memfd()?;
    let published = created.unpublished.publish_as(&dir, "slim")?;
    for vcpu in &mut created.vcpus {
        let mut tracker = RunstateTracker::new(RunState::Blocked, now());
        vcpu.write(tracker.enter(RunState::Running, now()), now());
    }
    for blk in &mut created.blks {
        blk.write(&BlkIo { rd_req: Word::from(1), ..BlkIo::NOT_PRODUCED }, now());
        blk.set(BlkIo::rd_req, 7, now());
    }
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    published.retire();
    Ok(())
}
