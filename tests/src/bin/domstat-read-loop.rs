//! Reads a domain's first vCPU and first disk again and again: `domstat-read-loop REGION READS`. Says so on
//! standard error before the first read and after the last, so that a trace of its system calls
//! shows what lies between.

use std::error::Error;
use std::time::Instant;

use domstat_consumer::{Reading, Region};
use domstat_layout::latest::{BlkIo, Runstate};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: domstat-read-loop REGION READS")?;
    let reads: u64 = args.next().ok_or("usage: domstat-read-loop REGION READS")?.parse()?;
    let region = Region::open(path)?;
    let vcpu = region.vcpu(0).ok_or("no vCPU")?;
    let disk = region.blk(0).ok_or("no disk")?;
    let (mut seen, mut newest) = (0u64, 0);
    eprintln!("reading");
    let began = Instant::now();
    for _ in 0..reads {
        if let Reading::Active(sample) = vcpu.read::<Runstate>()? {
            newest = newest.max(sample.updated.0);
            seen += 1;
        }
        if let Reading::Active(sample) = disk.read::<BlkIo>()? {
            newest = newest.max(sample.updated.0);
            seen += 1;
        }
    }
    let took = began.elapsed();
    eprintln!("reading is done");
    let each = took.as_nanos() / u128::from(seen.max(1));
    println!("{seen} groups read, {each} ns each, the newest as of {newest} ns");
    Ok(())
}
