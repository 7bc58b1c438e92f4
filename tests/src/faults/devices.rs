//! Device processes that are killed while they write records of a region through frames of their own.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use domstat_consumer::attach::Limits;
use domstat_consumer::{AttachError, Attachment, Liveness, Patience, Region};
use domstat_invariant_checker::{Options, Subject, watch_steps};
use domstat_layout::latest::{BlkIo, BlkIoTimes, Cpu, REV, Runstate};
use domstat_layout::{Clock, Group, Ns, RecordKind};
use domstat_producer::{
    BlkWriter, DomWriter, Frame, FrameWriters, RegionBuilder, Served, Server, VcpuWriter,
};

use super::report::Row;
use super::value::{Found, judge, number, value};
use super::{Fallible, HUNG, Place, impatient, wait_until};

/// Disks that processes of their own write; one more is written by the region's owner.
const NR_DEVICES: u32 = 2;
/// What the region is called.
const NAME: &str = "faults";
/// How many kills lie between two looks of the checker at the region.
const CHECKED_EACH: u64 = 128;
/// Rules about values, which here are patterns and no statistics.
const OF_VALUES: [&str; 4] = ["I19", "I20", "I22", "I33"];

fn now() -> Ns {
    domstat_consumer::clock::now(Clock::Monotonic).unwrap_or_default()
}

/// A device process; killed when it is dropped.
struct Device(Child);

impl Device {
    /// Starts one that takes over a frame; and its connection, at which it says when it has.
    fn spawn(index: u32, how: &str, frame: Frame) -> Fallible<(Self, UnixStream)> {
        let (fd, description) = frame.into_parts();
        let (mut ours, theirs) = UnixStream::pair()?;
        let child = Command::new(std::env::current_exe()?)
            .args(["device", &index.to_string(), how])
            .stdin(Stdio::from(fd))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        let device = Self(child);
        ours.write_all(&description)?;
        ours.shutdown(Shutdown::Write)?;
        Ok((device, ours))
    }

    /// As [`Device::spawn`], and waits until it has mapped the frame.
    fn start(index: u32, how: &str, frame: Frame) -> Fallible<Self> {
        let (device, mut says) = Self::spawn(index, how, frame)?;
        says.read_exact(&mut [0]).map_err(|_| "the device process did not take its frame")?;
        Ok(device)
    }

    fn kill(mut self) -> Fallible<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The device process: takes the record at its standard input over, and writes it without a pause
/// until it is killed, or the process that started it has exited.
///
/// # Errors
/// If it cannot.
pub fn device(index: u32, how: &str) -> Fallible<ExitCode> {
    let parent = rustix::process::getppid();
    let mut owner = UnixStream::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let mut description = Vec::new();
    owner.read_to_end(&mut description)?;
    let mut disk = BlkWriter::from_frame(std::io::stdin(), &description)?;
    owner.write_all(b"y")?;
    let first = disk.last::<BlkIo>().map_or(1, |io| number(&io));
    for n in first + 1.. {
        let now = now();
        let mut io = value::<BlkIo>(index, n, now);
        if how == "torn" && n % 16 == 0 {
            io.errs = value::<BlkIo>(index, n - 1, now).errs;
        }
        disk.write(&io, now);
        disk.write(&value::<BlkIoTimes>(index, n, now), now);
        if n.is_multiple_of(1 << 12) && rustix::process::getppid() != parent {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the region's owner writes itself.
struct Own {
    dom: DomWriter,
    vcpu: VcpuWriter,
    disk: BlkWriter,
}

impl Own {
    fn write(&mut self, n: u64) {
        let now = now();
        self.dom.write(&value::<Cpu>(0, n, now), now);
        self.vcpu.write(&value::<Runstate>(0, n, now), now);
        self.disk.write(&value::<BlkIo>(NR_DEVICES, n, now), now);
        self.disk.write(&value::<BlkIoTimes>(NR_DEVICES, n, now), now);
    }
}

/// Which group of which record.
type Of = (&'static str, u32);

/// One pass over all groups.
fn read(region: &Region) -> Vec<(Of, Found)> {
    let mut found = vec![(("cpu", 0), judge(0, region.dom().read::<Cpu>()))];
    if let Some(vcpu) = region.vcpu(0) {
        found.push((("runstate", 0), judge(0, vcpu.read::<Runstate>())));
    }
    for (index, blk) in (0..).zip(region.blks()) {
        found.push((("io", index), judge(index, blk.read::<BlkIo>())));
        found.push((("io_times", index), judge(index, blk.read::<BlkIoTimes>())));
    }
    found
}

/// What the threads share.
struct Shared {
    socket: PathBuf,
    done: AtomicBool,
    /// Odd while a record is taken back of which a group was left in mid-update: its counters may be of two writes.
    repairs: AtomicU64,
    /// How often frames were replaced.
    replaced: AtomicU64,
    /// What readers found, added up.
    sum: Mutex<Row>,
    mixed: AtomicU64,
    followed: AtomicU64,
}

impl Shared {
    fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    fn attach(&self) -> Fallible<Attachment> {
        let attachment = Attachment::connect(&self.socket, NAME)?;
        let patience = Patience { spins: 64, yielding: Duration::from_micros(200) };
        attachment.region().set_patience(patience);
        let stalled_after = Duration::from_millis(5);
        Ok(attachment.with_limits(Limits { stalled_after, stale_after: None }).reattaching())
    }

    /// A reader: checks every value until the end. One that `follows` attaches to new memory when there is any, any
    /// other one when it finds a record stalled.
    fn read(&self, follows: bool) {
        let mut tally = Row::default();
        if let Err(error) = self.try_read(follows, &mut tally) {
            tally.broken.push(error.to_string());
        }
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.values += tally.values;
        sum.wrong += tally.wrong;
        sum.lost += tally.lost;
        sum.stalled += tally.stalled;
        sum.broken.extend(tally.broken);
    }

    fn try_read(&self, follows: bool, tally: &mut Row) -> Fallible<()> {
        let mut attachment = self.attach()?;
        let mut last: HashMap<Of, u64> = HashMap::new();
        let mut stalled: HashMap<Of, Instant> = HashMap::new();
        let mut seen = 0;
        while !self.is_done() {
            let before = self.repairs.load(Ordering::SeqCst);
            let found = read(attachment.region());
            let after = self.repairs.load(Ordering::SeqCst);
            let repaired = before != after || before % 2 == 1;
            for (of, found) in found {
                match found {
                    Found::Whole { n, .. } => {
                        tally.values += 1;
                        stalled.remove(&of);
                        let before = last.insert(of, n).unwrap_or(0);
                        tally.lost += u64::from(n < before);
                    }
                    // A group with a second copy is whole at any time.
                    Found::Wrong if repaired && of.0 == "io_times" => {
                        self.mixed.fetch_add(1, Ordering::SeqCst);
                    }
                    Found::Wrong | Found::Lost => {
                        tally.wrong += 1;
                        tally.expect(tally.wrong > 3, || format!("{of:?} is {found:?}"));
                    }
                    Found::Stalled => {
                        tally.stalled += 1;
                        // Its writer lost its CPU for longer than this reader waits, but for no longer.
                        let own = of.0 == "cpu" || of.0 == "runstate" || of.1 == NR_DEVICES;
                        let since = *stalled.entry(of).or_insert_with(Instant::now);
                        let is_live = !own || since.elapsed() < HUNG;
                        tally
                            .expect(is_live, || format!("{of:?} is stalled, and its writer lives"));
                    }
                }
            }
            let replaced = self.replaced.load(Ordering::SeqCst);
            if follows && replaced != seen {
                match attachment.reattach() {
                    Ok(_) => seen = replaced,
                    // Its thread had no CPU for so long.
                    Err(AttachError::TimedOut { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            } else if !follows {
                let refreshed = attachment.refresh();
                let up = matches!(refreshed.liveness, Liveness::Live | Liveness::Stalled(_));
                tally.expect(up, || format!("the region is {}", refreshed.liveness.name()));
                self.followed
                    .fetch_add(u64::from(refreshed.reattached.is_some()), Ordering::SeqCst);
            }
            let patience = Patience { spins: 64, yielding: Duration::from_micros(200) };
            attachment.region().set_patience(patience);
        }
        Ok(())
    }
}

/// Kills device processes, `faults` times in all.
///
/// # Errors
/// If the harness itself cannot go on.
pub fn run(place: &Place, faults: u64, how: &str) -> Fallible<Row> {
    let socket = place.path("device.sock");
    let builder = RegionBuilder::new(NAME).vcpus(1).blks(NR_DEVICES + 1).clock(Clock::Monotonic);
    let mut created = builder.create_memfd_frames()?;
    for (index, disk) in (0..).zip(&mut created.blks) {
        let now = now();
        disk.write(&value::<BlkIo>(index, 1, now), now);
        disk.write(&value::<BlkIoTimes>(index, 1, now), now);
    }
    let vcpu = created.vcpus.pop().ok_or("no vCPU")?;
    let disk = created.blks.pop().ok_or("no disk")?;
    let mut own = Own { dom: created.dom, vcpu, disk };
    own.write(1);
    let mut devices = Vec::new();
    for (index, disk) in (0..).zip(created.blks) {
        devices.push(Some(Device::start(index, how, created.unpublished.hand_over(disk)?)?));
    }
    let mut region = created.unpublished.publish()?;
    let server = Server::builder().bind(&socket)?;
    let mut served = server.serve(&region, NAME)?;
    let shared = Shared {
        socket,
        done: AtomicBool::new(false),
        repairs: AtomicU64::new(0),
        replaced: AtomicU64::new(0),
        sum: Mutex::new(Row::new("device SIGKILL")),
        mixed: AtomicU64::new(0),
        followed: AtomicU64::new(0),
    };
    let mut killer = Killer { shared: &shared, how, left: 0, old: 0, unmapped: 0, checked: 0 };
    let result = thread::scope(|scope| {
        scope.spawn(|| shared.read(true));
        scope.spawn(|| shared.read(false));
        scope.spawn(|| {
            for n in 2.. {
                own.write(n);
                thread::sleep(Duration::from_micros(50));
                if shared.is_done() {
                    break;
                }
            }
        });
        let result = (0..faults)
            .try_for_each(|fault| killer.kill_one(fault, &mut devices, &mut region, &mut served));
        shared.done.store(true, Ordering::SeqCst);
        result
    });
    result?;
    let mut row = shared.sum.lock().unwrap_or_else(PoisonError::into_inner).clone();
    row.faults = faults;
    row.note = format!(
        "left in mid-update: {}, old: {}; killed before it had mapped its frame: {}; {} counters of two writes \
         while the owner took a record back; {} times a reader found the new memory by itself; {} looks of the checker",
        killer.left,
        killer.old,
        killer.unmapped,
        shared.mixed.load(Ordering::SeqCst),
        shared.followed.load(Ordering::SeqCst),
        killer.checked,
    );
    row.expect(killer.left + killer.old == faults, || "a killed record was neither".to_owned());
    Ok(row)
}

/// The thread that kills.
struct Killer<'a> {
    shared: &'a Shared,
    how: &'a str,
    left: u64,
    old: u64,
    unmapped: u64,
    checked: u64,
}

impl Killer<'_> {
    fn kill_one(
        &mut self,
        fault: u64,
        devices: &mut [Option<Device>],
        region: &mut domstat_producer::Region,
        served: &mut Served,
    ) -> Fallible<()> {
        thread::sleep(Duration::from_micros(fastrand::u64(0..2_000)));
        let index = fastrand::u32(0..NR_DEVICES);
        let device = devices.get_mut(index as usize).ok_or("no such device")?;
        device.take().ok_or("no device process")?.kill()?;
        self.look(index)?;
        self.checked += u64::from(fault.is_multiple_of(CHECKED_EACH));
        loop {
            // Readers may see what is made whole here, until it is.
            self.shared.repairs.fetch_add(1, Ordering::SeqCst);
            let mut disk = region.take_back::<BlkWriter>(index)?;
            let n = disk.last::<BlkIo>().map(|io| number(&io)).ok_or("nothing is left of io")?;
            let now = now();
            disk.write(&value::<BlkIoTimes>(index, n, now), now);
            self.shared.repairs.fetch_add(1, Ordering::SeqCst);
            let frame = region.hand_over(disk)?;
            if fastrand::u32(0..16) > 0 {
                *device = Some(Device::start(index, self.how, frame)?);
                break;
            }
            let (early, _says) = Device::spawn(index, self.how, frame)?;
            thread::sleep(Duration::from_micros(fastrand::u64(0..1_000)));
            early.kill()?;
            self.unmapped += 1;
        }
        region.replace_frames()?;
        served.update(region)?;
        self.shared.replaced.fetch_add(1, Ordering::SeqCst);
        if fault.is_multiple_of(CHECKED_EACH) {
            check(&self.shared.attach()?)?;
        }
        if (fault + 1).is_multiple_of(500) {
            eprintln!("{} device processes killed", fault + 1);
        }
        Ok(())
    }

    /// Looks at the region after a kill: that record is stalled or old, and every other one is read.
    fn look(&mut self, killed: u32) -> Fallible<()> {
        let ended = now();
        let attachment = self.shared.attach()?;
        let region = attachment.region();
        region.set_patience(impatient());
        let blk = region.blk(killed).ok_or("no such disk")?;
        let found = [judge(killed, blk.read::<BlkIo>()), judge(killed, blk.read::<BlkIoTimes>())];
        for found in found {
            match found {
                Found::Whole { updated, .. } if updated <= ended => {}
                // Of a group with a second copy at most one is in mid-update.
                Found::Stalled => {}
                // Counted as what a reader finds at any other time.
                Found::Wrong | Found::Lost => {
                    self.shared.sum.lock().unwrap_or_else(PoisonError::into_inner).wrong += 1;
                }
                other => return Err(format!("disk {killed}, whose writer died: {other:?}").into()),
            }
        }
        if found[0] == Found::Stalled {
            return Err("both copies of a group are in mid-update".into());
        }
        if is_odd(region, killed) {
            self.left += 1
        } else {
            self.old += 1
        }
        wait_until("reading all others", || {
            read(region).into_iter().all(|((group, index), found)| {
                let is_killed = group.starts_with("io") && index == killed;
                let is_new = matches!(found, Found::Whole { updated, .. } if updated > ended);
                is_killed || is_new
            })
        })?;
        Ok(())
    }
}

/// Whether a copy of a group of a disk is in mid-update.
fn is_odd(region: &Region, index: u32) -> bool {
    let record = region.geometry().array(RecordKind::Blk).offset(index).unwrap_or(0);
    let twin = BlkIo::DESC.twin_in(REV.groups(RecordKind::Blk));
    [Some(BlkIo::DESC), twin, Some(BlkIoTimes::DESC)]
        .into_iter()
        .flatten()
        .any(|desc| region.mem().load_u32(record + desc.offset).is_some_and(|seq| seq % 2 == 1))
}

/// Has the checker look at the region.
fn check(attachment: &Attachment) -> Fallible<()> {
    let subject = Subject::new(attachment.region().mem());
    // A writer that has no CPU for a while is not stalled.
    let options = Options { seq_deadline: HUNG, ..Options::default() };
    let report = watch_steps(&subject, &options, |looks| looks < 3)?;
    let mut broken = report.rules.iter().filter(|of| of.failed() && !OF_VALUES.contains(&of.id));
    broken.next().map_or(Ok(()), |of| Err(format!("{}: {:?}", of.id, of.findings).into()))
}
