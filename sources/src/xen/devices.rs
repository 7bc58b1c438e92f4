//! The devices that dom0's backends serve for a domain, and which slot each is shown in.
//!
//! Disks are those of Linux' xen-blkback: /sys/bus/xen-backend/devices/vbd-DOMID-DEVID/statistics.
//! Sectors there have 512 bytes, whatever the sector size of the disk is. Interfaces are those of
//! xen-netback: .../vif-DOMID-HANDLE/net/NAME/statistics, whose directions are the host's: what
//! the host receives, the domain has sent.

use std::io;
use std::path::{Path, PathBuf};

use domstat_layout::latest::{BlkIdentity, BlkIo, BlkIoTimes, BlkVbd, NetIdentity, NetIo};
use domstat_layout::sink::{BlkSink, NetSink};
use domstat_layout::{Group, MAX_DEVICES, Name, Ns, Word};

use super::counters::Counters;
use super::devid::disk_name;

const SECTOR_BYTES: u64 = 512;
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

/// One kind of device: where it is, what is read of it, how that is published.
pub(super) trait Device<S>: Sized {
    /// The directory's name begins with it, DOMID and the device's number follow.
    const KIND: &'static str;

    /// Looks at the device at `path`. `None` while it has no statistics.
    fn open(path: &Path, number: u32) -> io::Result<Option<Self>>;

    /// Whether what is at `path` is still this device.
    fn is_current(&self, path: &Path) -> bool;

    /// Publishes who it is.
    fn identify(&self, sink: &mut S, now: Ns);

    /// Publishes what it did.
    fn publish(&self, sink: &mut S, now: &dyn Fn() -> Ns) -> io::Result<()>;

    /// Nothing of it is produced any more.
    fn withdraw(sink: &mut S);

    /// The slot is for another.
    fn renew(sink: &mut S);
}

/// A disk that xen-blkback serves.
pub(super) struct Vbd {
    devid: u32,
    counters: Counters<7>,
}

impl<S: BlkSink> Device<S> for Vbd {
    const KIND: &'static str = "vbd";

    fn open(path: &Path, devid: u32) -> io::Result<Option<Self>> {
        let counters = Counters::open(&path.join("statistics"), VBD_FILES);
        Ok(unless_missing(counters)?.map(|counters| Self { devid, counters }))
    }

    fn is_current(&self, path: &Path) -> bool {
        self.counters.is_current(&path.join("statistics"))
    }

    fn identify(&self, sink: &mut S, now: Ns) {
        sink.write(&BlkIdentity { name: Name::new(&disk_name(self.devid)) }, now);
    }

    fn publish(&self, sink: &mut S, now: &dyn Fn() -> Ns) -> io::Result<()> {
        let [rd_req, rd_sect, wr_req, wr_sect, f_req, ds_req, oo_req] = self.counters.read()?;
        let now = now();
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
        let vbd = BlkVbd {
            oo_req: oo_req.into(),
            ds_req: ds_req.into(),
            f_req: f_req.into(),
            devid: u64::from(self.devid).into(),
        };
        sink.write(&vbd, now);
        Ok(())
    }

    fn withdraw(sink: &mut S) {
        sink.deactivate::<BlkIo>();
        sink.deactivate::<BlkIoTimes>();
        sink.deactivate::<BlkVbd>();
        sink.deactivate::<BlkIdentity>();
    }

    fn renew(sink: &mut S) {
        sink.renew();
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
    const KIND: &'static str = "vif";

    fn open(path: &Path, _handle: u32) -> io::Result<Option<Self>> {
        let Some(interface) = Self::interface(path)? else { return Ok(None) };
        let name = interface.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let counters = Counters::open(&interface.join("statistics"), VIF_FILES);
        Ok(unless_missing(counters)?.map(|counters| Self { name, counters }))
    }

    fn is_current(&self, path: &Path) -> bool {
        self.counters.is_current(&path.join("net").join(&self.name).join("statistics"))
    }

    fn identify(&self, sink: &mut S, now: Ns) {
        sink.write(&NetIdentity { name: Name::new(&self.name) }, now);
    }

    fn publish(&self, sink: &mut S, now: &dyn Fn() -> Ns) -> io::Result<()> {
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

/// The slots of one kind of device.
pub(super) struct Slots<S, D> {
    /// What every entry of the domain begins with: KIND-DOMID-.
    prefix: String,
    slots: Vec<Slot<S, D>>,
    /// Devices for which there is no slot.
    not_shown: usize,
}

struct Slot<S, D> {
    sink: S,
    /// The device shown in it and its number.
    shown: Option<(u32, D)>,
    used: bool,
}

impl<S, D: Device<S>> Slots<S, D> {
    pub(super) fn new(domid: u16, sinks: Vec<S>) -> Self {
        let slot = |sink| Slot { sink, shown: None, used: false };
        let slots = sinks.into_iter().map(slot).collect();
        Self { prefix: prefix::<S, D>(domid), slots, not_shown: 0 }
    }

    /// Publishes what the devices under `devices` say now.
    pub(super) fn sample(&mut self, devices: &Path, now: &dyn Fn() -> Ns) -> io::Result<()> {
        let numbers = numbers(devices, &self.prefix)?;
        for slot in &mut self.slots {
            if let Some((number, device)) = &slot.shown {
                let path = devices.join(format!("{}{number}", self.prefix));
                let there = numbers.contains(number) && device.is_current(&path);
                // A device that is taken away meanwhile gives ENODEV or EIO.
                if !there || device.publish(&mut slot.sink, now).is_err() {
                    slot.empty();
                }
            }
        }
        self.not_shown = 0;
        for number in numbers {
            if self.slots.iter().any(|slot| slot.shows(number)) {
                continue;
            }
            let path = devices.join(format!("{}{number}", self.prefix));
            let Some(device) = D::open(&path, number)? else { continue };
            match self.slots.iter_mut().find(|slot| slot.shown.is_none()) {
                Some(slot) => slot.show(number, device, now),
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
    fn shows(&self, number: u32) -> bool {
        self.shown.as_ref().is_some_and(|(shown, _)| *shown == number)
    }

    fn show(&mut self, number: u32, device: D, now: &dyn Fn() -> Ns) {
        if self.used {
            D::renew(&mut self.sink);
        }
        self.used = true;
        device.identify(&mut self.sink, now());
        let published = device.publish(&mut self.sink, now);
        self.shown = Some((number, device));
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

/// How many devices of the kind the domain has.
pub(super) fn count<S, D: Device<S>>(devices: &Path, domid: u16) -> io::Result<usize> {
    Ok(numbers(devices, &prefix::<S, D>(domid))?.len())
}

fn prefix<S, D: Device<S>>(domid: u16) -> String {
    format!("{}-{domid}-", D::KIND)
}

/// The numbers of the devices whose entries begin with `prefix`, in order. No backend was ever
/// loaded if the directory is not there.
fn numbers(devices: &Path, prefix: &str) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in unless_missing(std::fs::read_dir(devices))?.into_iter().flatten() {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(prefix));
        numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn unless_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Saturates as the counters of the layout do.
const fn sector_bytes(sectors: u64) -> u64 {
    sectors.saturating_mul(SECTOR_BYTES)
}
