//! The devices that dom0's backends serve for a domain, and which slot each is shown in.
//!
//! * Disks of Linux' xen-blkback: /sys/bus/xen-backend/devices/vbd-DOMID-DEVID/statistics. Sectors
//!   there have 512 bytes, whatever the sector size of the disk is.
//! * Disks of tapdisk (vbd3-DOMID-DEVID) and of QEMU (qdisk-DOMID-DEVID), which have no statistics
//!   in sysfs: tapdisk's are in /dev/shm, QEMU's nowhere but in its monitor. Without any a disk is
//!   shown by its name.
//! * Interfaces of xen-netback: .../vif-DOMID-HANDLE/net/NAME/statistics, whose directions are the
//!   host's: what the host receives, the domain has sent.

use std::io;
use std::path::{Path, PathBuf};

use domstat_layout::latest::{
    BlkIdentity, BlkIo, BlkIoTimes, BlkQueue, BlkVbd, NetIdentity, NetIo,
};
use domstat_layout::sink::{BlkSink, NetSink};
use domstat_layout::{Group, MAX_DEVICES, Name, Ns, Word};

use super::backends::{Backends, Entry, Kind, is_ours, is_trusted, unless_missing};
use super::counters::Counters;
use super::devid::disk_name;
use super::tapdisk::{self, Layout, Statistics};

const SECTOR_BYTES: u64 = 512;
const NS_PER_US: u64 = 1000;
const VBD_FILES: [&str; 7] =
    ["rd_req", "rd_sect", "wr_req", "wr_sect", "f_req", "ds_req", "oo_req"];
const VIF_FILES: [&str; 8] = [
    "rx_bytes",
    "rx_packets",
    "rx_errors",
    "rx_dropped",
    "tx_bytes",
    "tx_packets",
    "tx_errors",
    "tx_dropped",
];

/// One class of devices: where they are, what is read of one, how that is published.
pub(super) trait Device<S>: Sized {
    /// The backends that serve such devices.
    const KINDS: &'static [Kind];

    /// Looks at a device. `None` while it has no statistics and will have some.
    fn open(backends: &Backends, domid: u16, entry: Entry) -> io::Result<Option<Self>>;

    /// Whether what is there now is still this device.
    fn is_current(&self, backends: &Backends, domid: u16, entry: Entry) -> bool;

    /// Publishes who it is.
    fn identify(&self, sink: &mut S, now: Ns);

    /// Publishes what it did.
    fn publish(&mut self, sink: &mut S, now: &dyn Fn() -> Ns) -> io::Result<()>;

    /// Nothing of it is produced any more.
    fn withdraw(sink: &mut S);

    /// The slot is for another.
    fn renew(sink: &mut S);
}

/// A disk.
pub(super) struct Disk {
    devid: u32,
    counters: DiskCounters,
}

/// Where a disk's numbers come from.
enum DiskCounters {
    /// xen-blkback.
    Vbd(Counters<7>),
    Tapdisk(Tapdisk),
    /// No backend that keeps them where they can be read.
    Absent,
}

/// A file of tapdisk's, and the largest values of its times: they are differences of a clock that
/// can be set.
struct Tapdisk {
    path: PathBuf,
    statistics: Statistics,
    times: [Option<u64>; 2],
}

impl<S: BlkSink> Device<S> for Disk {
    const KINDS: &'static [Kind] = &[Kind::Vbd, Kind::Vbd3, Kind::Qdisk];

    fn open(backends: &Backends, domid: u16, entry: Entry) -> io::Result<Option<Self>> {
        let devid = entry.number;
        let counters = match entry.kind {
            Kind::Vbd => {
                let path = backends.path(domid, entry).join("statistics");
                let Some(counters) = unless_missing(Counters::open(&path, VBD_FILES))? else {
                    return Ok(None);
                };
                DiskCounters::Vbd(counters)
            }
            Kind::Vbd3 => {
                let tapdisk = Tapdisk::find(backends, domid, devid)?;
                tapdisk.map_or(DiskCounters::Absent, DiskCounters::Tapdisk)
            }
            Kind::Qdisk | Kind::Vif => DiskCounters::Absent,
        };
        Ok(Some(Self { devid, counters }))
    }

    fn is_current(&self, backends: &Backends, domid: u16, entry: Entry) -> bool {
        match &self.counters {
            DiskCounters::Vbd(counters) => {
                counters.is_current(&backends.path(domid, entry).join("statistics"))
            }
            DiskCounters::Tapdisk(tapdisk) => {
                // Another tapdisk serves the disk where another one's file of this kind counts.
                let newest = match tapdisk.statistics.layout() {
                    Layout::Metrics => backends.metrics(domid, self.devid).ok().flatten(),
                    Layout::Blkback => None,
                };
                newest.is_none_or(|path| path == tapdisk.path)
                    && tapdisk.statistics.is_current(&tapdisk.path)
            }
            // Until its tapdisk has a file.
            DiskCounters::Absent => {
                entry.kind != Kind::Vbd3
                    || !matches!(Tapdisk::find(backends, domid, self.devid), Ok(Some(_)))
            }
        }
    }

    fn identify(&self, sink: &mut S, now: Ns) {
        sink.write(&BlkIdentity { name: Name::new(&disk_name(self.devid)) }, now);
    }

    fn publish(&mut self, sink: &mut S, now: &dyn Fn() -> Ns) -> io::Result<()> {
        let devid = u64::from(self.devid).into();
        match &mut self.counters {
            DiskCounters::Vbd(counters) => publish_vbd(sink, counters.read()?, devid, now()),
            DiskCounters::Tapdisk(tapdisk) => {
                let counters = tapdisk.read()?;
                publish_tapdisk(sink, &counters, devid, now());
            }
            DiskCounters::Absent => sink.write(&BlkVbd { devid, ..BlkVbd::NOT_PRODUCED }, now()),
        }
        Ok(())
    }

    fn withdraw(sink: &mut S) {
        sink.deactivate::<BlkIo>();
        sink.deactivate::<BlkIoTimes>();
        sink.deactivate::<BlkQueue>();
        sink.deactivate::<BlkVbd>();
        sink.deactivate::<BlkIdentity>();
    }

    fn renew(sink: &mut S) {
        sink.renew();
    }
}

/// What xen-blkback's files say.
fn publish_vbd<S: BlkSink>(sink: &mut S, files: [Option<u64>; 7], devid: Word, now: Ns) {
    let [rd_req, rd_sect, wr_req, wr_sect, f_req, ds_req, oo_req] = files;
    let bytes = |sectors: Option<u64>| Word::from(sectors.map(sector_bytes));
    let io = BlkIo {
        rd_req: rd_req.into(),
        rd_bytes: bytes(rd_sect),
        wr_req: wr_req.into(),
        wr_bytes: bytes(wr_sect),
        ..BlkIo::NOT_PRODUCED
    };
    sink.write(&io, now);
    sink.write(&BlkIoTimes { flush_req: f_req.into(), ..BlkIoTimes::NOT_PRODUCED }, now);
    let vbd = BlkVbd { oo_req: oo_req.into(), ds_req: ds_req.into(), f_req: f_req.into(), devid };
    sink.write(&vbd, now);
}

/// What tapdisk's file says.
fn publish_tapdisk<S: BlkSink>(sink: &mut S, from: &tapdisk::Counters, devid: Word, now: Ns) {
    let submitted = from.rd_submitted.saturating_add(from.wr_submitted);
    let completed = from.rd_completed.zip(from.wr_completed).map(|(rd, wr)| rd.saturating_add(wr));
    // Two words that are a request apart are none in flight.
    let in_flight = completed.map(|completed| submitted.saturating_sub(completed));
    let io = BlkIo {
        rd_req: from.rd_completed.into(),
        rd_bytes: sector_bytes(from.rd_sectors).into(),
        wr_req: from.wr_completed.into(),
        wr_bytes: sector_bytes(from.wr_sectors).into(),
        errs: from.io_errors.into(),
        in_flight: in_flight.into(),
    };
    sink.write(&io, now);
    let ns = |usecs: Option<u64>| Word::from(usecs.map(|usecs| usecs.saturating_mul(NS_PER_US)));
    let times = BlkIoTimes {
        rd_total_ns: ns(from.rd_usecs),
        wr_total_ns: ns(from.wr_usecs),
        ..BlkIoTimes::NOT_PRODUCED
    };
    sink.write(&times, now);
    let queue = BlkQueue {
        submitted: in_flight.zip(completed).map(|(all, done)| all.saturating_add(done)).into(),
        completed: completed.into(),
        ..BlkQueue::NOT_PRODUCED
    };
    sink.write(&queue, now);
    sink.write(&BlkVbd { oo_req: from.oo_req.into(), devid, ..BlkVbd::NOT_PRODUCED }, now);
}

impl Tapdisk {
    /// The file of the disk, the one that xentop reads first. `None` if there is none that tapdisk
    /// can have made and that can be read.
    fn find(backends: &Backends, domid: u16, devid: u32) -> io::Result<Option<Self>> {
        let rrd = backends.statistics(domid, devid);
        let rrd = rrd.parent().is_some_and(is_trusted).then_some(rrd);
        let candidates = [
            backends.metrics(domid, devid)?.map(|path| (path, Layout::Metrics)),
            rrd.map(|path| (path, Layout::Blkback)),
        ];
        for (path, layout) in candidates.into_iter().flatten() {
            if let Ok(statistics) = Statistics::open(&path, layout, is_ours)
                && statistics.read().is_ok()
            {
                return Ok(Some(Self { path, statistics, times: [None; 2] }));
            }
        }
        Ok(None)
    }

    fn read(&mut self) -> io::Result<tapdisk::Counters> {
        let mut counters = self.statistics.read()?;
        let fields = [&mut counters.rd_usecs, &mut counters.wr_usecs];
        for (last, field) in self.times.iter_mut().zip(fields) {
            *last = (*field).max(*last);
            *field = field.and(*last);
        }
        Ok(counters)
    }
}

/// An interface that xen-netback serves.
pub(super) struct Vif {
    name: String,
    counters: Counters<8>,
}

impl Vif {
    /// The directory of the host's end of it.
    fn interface(path: &Path) -> io::Result<Option<PathBuf>> {
        let Some(mut entries) = unless_missing(std::fs::read_dir(path.join("net")))? else {
            return Ok(None);
        };
        Ok(entries.next().transpose()?.map(|entry| entry.path()))
    }
}

impl<S: NetSink> Device<S> for Vif {
    const KINDS: &'static [Kind] = &[Kind::Vif];

    fn open(backends: &Backends, domid: u16, entry: Entry) -> io::Result<Option<Self>> {
        let path = backends.path(domid, entry);
        let Some(interface) = Self::interface(&path)? else { return Ok(None) };
        let name = interface.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let counters = Counters::open(&interface.join("statistics"), VIF_FILES);
        Ok(unless_missing(counters)?.map(|counters| Self { name, counters }))
    }

    fn is_current(&self, backends: &Backends, domid: u16, entry: Entry) -> bool {
        let path = backends.path(domid, entry);
        self.counters.is_current(&path.join("net").join(&self.name).join("statistics"))
    }

    fn identify(&self, sink: &mut S, now: Ns) {
        sink.write(&NetIdentity { name: Name::new(&self.name) }, now);
    }

    fn publish(&mut self, sink: &mut S, now: &dyn Fn() -> Ns) -> io::Result<()> {
        let [rx_bytes, rx_packets, rx_errs, rx_drop, tx_bytes, tx_packets, tx_errs, tx_drop] =
            self.counters.read()?;
        // The domain's directions.
        let io = NetIo {
            rx_bytes: tx_bytes.into(),
            rx_packets: tx_packets.into(),
            rx_errs: tx_errs.into(),
            rx_drop: tx_drop.into(),
            tx_bytes: rx_bytes.into(),
            tx_packets: rx_packets.into(),
            tx_errs: rx_errs.into(),
            tx_drop: rx_drop.into(),
        };
        sink.write(&io, now());
        Ok(())
    }

    fn withdraw(sink: &mut S) {
        sink.deactivate::<NetIo>();
        sink.deactivate::<NetIdentity>();
    }

    fn renew(sink: &mut S) {
        sink.renew();
    }
}

/// The slots of one class of devices.
pub(super) struct Slots<S, D> {
    domid: u16,
    slots: Vec<Slot<S, D>>,
    /// Devices for which there is no slot.
    not_shown: usize,
}

struct Slot<S, D> {
    sink: S,
    /// The device shown in it.
    shown: Option<(Entry, D)>,
    used: bool,
}

impl<S, D: Device<S>> Slots<S, D> {
    pub(super) fn new(domid: u16, sinks: Vec<S>) -> Self {
        let slot = |sink| Slot { sink, shown: None, used: false };
        let slots = sinks.into_iter().map(slot).collect();
        Self { domid, slots, not_shown: 0 }
    }

    /// Publishes what the devices say now.
    pub(super) fn sample(&mut self, backends: &Backends, now: &dyn Fn() -> Ns) -> io::Result<()> {
        let entries = backends.of(self.domid, D::KINDS)?;
        for slot in &mut self.slots {
            if let Some((entry, device)) = &mut slot.shown {
                let there =
                    entries.contains(entry) && device.is_current(backends, self.domid, *entry);
                // A device that is taken away meanwhile gives ENODEV or EIO.
                if !there || device.publish(&mut slot.sink, now).is_err() {
                    slot.empty();
                }
            }
        }
        self.not_shown = 0;
        for entry in entries {
            if self.slots.iter().any(|slot| slot.shows(entry)) {
                continue;
            }
            let Some(device) = D::open(backends, self.domid, entry)? else { continue };
            match self.slots.iter_mut().find(|slot| slot.shown.is_none()) {
                Some(slot) => slot.show(entry, device, now),
                None => self.not_shown = self.not_shown.saturating_add(1),
            }
        }
        Ok(())
    }

    /// Whether there are more devices than slots, and a region can have more. Who gave no sinks
    /// wants no devices.
    pub(super) fn outgrown(&self) -> bool {
        let most = usize::try_from(MAX_DEVICES).unwrap_or(usize::MAX);
        self.not_shown > 0 && (1..most).contains(&self.slots.len())
    }

    /// The domain has ended, and its devices with it.
    pub(super) fn end(&mut self) {
        self.slots.iter_mut().for_each(Slot::empty);
        self.not_shown = 0;
    }
}

impl<S, D: Device<S>> Slot<S, D> {
    fn shows(&self, entry: Entry) -> bool {
        self.shown.as_ref().is_some_and(|(shown, _)| *shown == entry)
    }

    fn show(&mut self, entry: Entry, mut device: D, now: &dyn Fn() -> Ns) {
        if self.used {
            D::renew(&mut self.sink);
        }
        self.used = true;
        device.identify(&mut self.sink, now());
        let published = device.publish(&mut self.sink, now);
        self.shown = Some((entry, device));
        if published.is_err() {
            self.empty();
        }
    }

    fn empty(&mut self) {
        if self.shown.take().is_some() {
            D::withdraw(&mut self.sink);
        }
    }
}

/// How many devices of the class the domain has.
pub(super) fn count<S, D: Device<S>>(backends: &Backends, domid: u16) -> io::Result<usize> {
    Ok(backends.of(domid, D::KINDS)?.len())
}

/// Saturates as the counters of the layout do.
const fn sector_bytes(sectors: u64) -> u64 {
    sectors.saturating_mul(SECTOR_BYTES)
}
