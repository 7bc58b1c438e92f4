//! In dom0 of a Xen with the statistics resource: what reading a vCPU costs through the mapped
//! frames and through XEN_DOMCTL_getvcpuinfo, and whether both say the same.
//!
//! `domstat-xen-cost DOMID` prints one JSON object.

use std::path::Path;
use std::time::Instant;

use domstat_consumer::Reading;
use domstat_consumer::region::MappedFile;
use domstat_layout::latest::Runstate;
use domstat_sources::xen::{Hypervisor, Xen};
use serde_json::json;

const READS: u32 = 20_000;
const HYPERCALLS: u32 = 2_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let domid: u16 = std::env::args().nth(1).ok_or("a domain's number is expected")?.parse()?;
    let dev = Path::new("/dev/xen");
    let region = MappedFile::xen(dev, domid)?.attach()?;
    let mut xen = Xen::open(dev)?;
    let vcpu = region.vcpu(0).ok_or("there is no vCPU 0")?;

    let begin = Instant::now();
    for _ in 0..READS {
        std::hint::black_box(vcpu.read::<Runstate>()?);
    }
    let read_ns = begin.elapsed().as_nanos() / u128::from(READS);
    let begin = Instant::now();
    for _ in 0..HYPERCALLS {
        std::hint::black_box(xen.vcpu(domid, 0)?);
    }
    let hypercall_ns = begin.elapsed().as_nanos() / u128::from(HYPERCALLS);

    let mut vcpus = Vec::new();
    for vcpu in region.vcpus() {
        let running = || match vcpu.read::<Runstate>() {
            Ok(Reading::Active(sample)) => Ok((sample.running_ns.value(), sample.seq)),
            _ => Err("a vCPU has no runstate"),
        };
        let (before, seq) = running()?;
        let hypercall = xen.vcpu(domid, vcpu.index())?.map(|info| info.cpu_time);
        let (after, _) = running()?;
        vcpus.push(json!({
            "index": vcpu.index(), "before_ns": before, "hypercall_ns": hypercall,
            "after_ns": after, "seq": seq,
        }));
    }
    let ratio = hypercall_ns / read_ns.max(1);
    println!(
        "{}",
        json!({
            "read_ns": u64::try_from(read_ns)?, "hypercall_ns": u64::try_from(hypercall_ns)?,
            "ratio": u64::try_from(ratio)?, "vcpus": vcpus,
        })
    );
    Ok(())
}
