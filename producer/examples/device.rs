//! Publishes a domain whose disk another process serves, which writes the disk's record itself, until Ctrl-C.
//!
//! The program starts itself again as the device process, and hands it the memory of the disk's record at
//! standard input.

use std::error::Error;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use domstat_layout::latest::{BlkIdentity, BlkIo};
use domstat_layout::{Clock, Group, Name, Ns};
use domstat_producer::{BlkWriter, Frame, FrameWriters, RegionBuilder, Server};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The longest description of a frame is far shorter.
const MAX_DESCRIPTION: u64 = 1 << 20;

fn now() -> Ns {
    domstat_producer::now(Clock::Monotonic).unwrap_or_default()
}

/// Starts the device process, and returns when it has mapped what it is to write.
fn start_device(frame: Frame) -> Result<Child, Box<dyn Error>> {
    let (fd, description) = frame.into_parts();
    let (mut ours, theirs) = UnixStream::pair()?;
    // Standard input is the frame, standard output the connection; a device process that runs
    // already gets the descriptor by SCM_RIGHTS.
    let child = Command::new("/proc/self/exe")
        .arg("device")
        .stdin(Stdio::from(fd))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    ours.write_all(&description)?;
    ours.shutdown(Shutdown::Write)?;
    ours.read_exact(&mut [0])?;
    Ok(child)
}

/// The device process: takes the record, says so, and counts a request each 10 ms.
fn run_device() -> Result<(), Box<dyn Error>> {
    let mut vmm = UnixStream::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let mut description = Vec::new();
    (&vmm).take(MAX_DESCRIPTION).read_to_end(&mut description)?;
    let mut disk = BlkWriter::from_frame(std::io::stdin(), &description)?;
    vmm.write_all(b"y")?;
    // What an earlier process counted goes on.
    let mut io = disk.last::<BlkIo>().unwrap_or(BlkIo {
        rd_req: 0.into(),
        rd_bytes: 0.into(),
        ..BlkIo::NOT_PRODUCED
    });
    loop {
        io.rd_req = io.rd_req.plus(1.into());
        io.rd_bytes = io.rd_bytes.plus(4096.into());
        disk.write(&io, now());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).is_some_and(|arg| arg == "device") {
        return run_device();
    }
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let dir = std::env::var_os("DOMSTAT_DIR").map_or("/run/domstat".into(), PathBuf::from);

    // Each record lies in memory of its own.
    let builder = RegionBuilder::new("hello-device").vcpus(1).blks(1).clock(Clock::Monotonic);
    let mut created = builder.created(now()).create_memfd_frames()?;
    let mut disk = created.blks.remove(0);
    disk.write(&BlkIdentity { name: Name::new("vda") }, now());

    // From here on the disk has one writer, over there. When that has mapped its memory, publishing seals
    // it: no further process can write.
    let mut device = start_device(created.unpublished.hand_over(disk)?)?;
    let mut region = created.unpublished.publish()?;
    let server = Server::builder().bind(dir.join("hello-device.sock"))?;
    let mut served = server.serve(&region, "hello-device")?;
    println!("publishing hello-device in {}; Ctrl-C ends it", dir.display());

    while signals.pending().next().is_none() {
        std::thread::sleep(Duration::from_millis(100));
        if device.try_wait()?.is_some() {
            // Whatever it was doing: the record is made whole, and the next process goes on with it.
            let disk = region.take_back::<BlkWriter>(0)?;
            device = start_device(region.hand_over(disk)?)?;
            region.replace_frames()?;
            served.update(&region)?;
        }
    }
    device.kill()?;
    device.wait()?;
    region.retire();
    Ok(())
}
