//! Records what a Xen host says at this moment, for tests to replay: Xen's own bytes and the files
//! of sysfs that the `xen` source reads.
//!
//! Lines are `domain HEX` (xen_domctl_getdomaininfo), `vcpu DOMID INDEX HEX`
//! (xen_domctl_getvcpuinfo), `file PATH TEXT` with a path from sysfs' root, and `end NAME`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use domstat_sources::xen::{Hypervisor, Xen};
use zerocopy::IntoBytes;

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_else(|| "moment".to_owned());
    match record(Path::new("/dev/xen"), Path::new("/sys")) {
        Ok(text) => {
            print!("{text}");
            println!("end {name}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("domstat-xen-record: {error}");
            ExitCode::FAILURE
        }
    }
}

fn record(dev: &Path, sys: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let mut xen = Xen::open(dev)?;
    let mut text = String::new();
    for info in xen.all_domains()? {
        writeln!(text, "domain {}", hex(info.as_bytes()))?;
        for index in 0..=info.max_vcpu_id {
            if let Some(vcpu) = xen.vcpu(info.domain, index)? {
                writeln!(text, "vcpu {} {index} {}", info.domain, hex(vcpu.as_bytes()))?;
            }
        }
    }
    let devices = Path::new("bus/xen-backend/devices");
    for device in entries(&sys.join(devices)) {
        let path = devices.join(&device);
        files(&mut text, sys, &path.join("statistics"), "_")?;
        for interface in entries(&sys.join(&path).join("net")) {
            let statistics = path.join("net").join(interface).join("statistics");
            for end in ["_bytes", "_packets", "_errors", "_dropped"] {
                files(&mut text, sys, &statistics, end)?;
            }
        }
    }
    Ok(text)
}

/// The files right under `directory`, which need not exist, with `part` in their names.
fn files(
    text: &mut String,
    sys: &Path,
    directory: &Path,
    part: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let names = entries(&sys.join(directory)).into_iter();
    for name in names.filter(|name| name.to_string_lossy().contains(part)) {
        let path = directory.join(name);
        let content = std::fs::read_to_string(sys.join(&path))?;
        writeln!(text, "file {} {}", path.display(), content.trim_end())?;
    }
    Ok(())
}

/// Names in a directory, in order.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<PathBuf> = entries.flatten().map(|e| e.file_name().into()).collect();
    names.sort();
    names
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
