//! A sample under the names that `virsh domstats` prints. What is not produced is left out.

use std::io::Write;
use std::time::{Duration, SystemTime};

use domstat_consumer::{Reading, Region, Snapshot, SnapshotRecord};
use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::latest::{
    Balloon, BlkExtent, BlkIdentity, BlkIo, BlkIoTimes, Cpu, Identity, Memory, NetIdentity, NetIo,
    REASON_NAMES, Runstate, STATUS_NAMES, Sched, Status,
};
use domstat_layout::schema::{FieldKind, FieldUnit, SchemaField, SchemaGroup};
use domstat_layout::{BlkGroup, Ns, RecordKind, Schema, VcpuGroup, Word};

use crate::output::printable;
use crate::rows::Distributions;

/// libvirt's VIR_VCPU_RUNNING, which its QEMU driver says of every vCPU that is plugged.
const VCPU_RUNNING: u64 = 1;

/// Prints every key of the domain; with `backing`, images that back a disk, too.
pub(super) fn print(
    out: &mut impl Write,
    region: &Region,
    snapshot: &Snapshot,
    backing: bool,
) -> std::io::Result<()> {
    let mut keys = Keys { out };
    let dom = snapshot.dom();
    let name = dom.dom_group::<Identity>().ok().and_then(|r| r.active().map(|i| i.name));
    let name = name.as_ref().and_then(|n| n.as_str()).unwrap_or("-");
    writeln!(keys.out, "Domain: '{}'", printable(name))?;
    let extras = Extras::of(region);
    let status = dom.dom_group::<Status>().ok().and_then(Reading::active);
    let status = status.map(|status| libvirt_state(&status));
    if let Some([state, reason]) = extras.state.or(status) {
        keys.word("state.state", state)?;
        keys.word("state.reason", reason)?;
    }
    if let Ok(Reading::Active(cpu)) = dom.dom_group::<Cpu>() {
        keys.word("cpu.time", cpu.time_ns)?;
        keys.word("cpu.user", cpu.user_ns)?;
        keys.word("cpu.system", cpu.system_ns)?;
    }
    for result in ["success", "fail"] {
        keys.word(&format!("cpu.haltpoll.{result}.time"), extras.halt_poll(result))?;
    }
    if let Ok(Reading::Active(memory)) = dom.dom_group::<Memory>() {
        balloon(&mut keys, &memory)?;
    }
    if let Ok(Reading::Active(more)) = dom.dom_group::<Balloon>() {
        balloon_more(&mut keys, &more, snapshot.taken())?;
    }
    vcpus(&mut keys, snapshot, &extras)?;
    nets(&mut keys, snapshot)?;
    blks(&mut keys, region, snapshot, backing)?;
    for (key, value) in &extras.more {
        keys.text(key, value)?;
    }
    for (key, value) in &extras.vm {
        keys.text(&format!("vm.{key}"), value)?;
    }
    Ok(())
}

struct Keys<'o, W> {
    out: &'o mut W,
}

impl<W: Write> Keys<'_, W> {
    fn word(&mut self, key: &str, word: Word) -> std::io::Result<()> {
        match word.value() {
            Some(value) => writeln!(self.out, "  {key}={value}"),
            None => Ok(()),
        }
    }

    fn kib(&mut self, key: &str, bytes: Word) -> std::io::Result<()> {
        self.word(key, Word::from(bytes.value().map(|b| b / 1024)))
    }

    fn text(&mut self, key: &str, text: &str) -> std::io::Result<()> {
        writeln!(self.out, "  {key}={}", printable(text))
    }
}

/// What the region describes itself: the domain's state, and KVM's statistics.
struct Extras {
    state: Option<[Word; 2]>,
    /// Keys and values of the domain, and of each vCPU.
    vm: Vec<(String, String)>,
    vcpus: Vec<Vec<(String, String)>>,
    /// Of IOThreads and the dirty rate, by libvirt's keys.
    more: Vec<(String, String)>,
}

impl Extras {
    fn of(region: &Region) -> Self {
        let mut extras = Self { state: None, vm: Vec::new(), vcpus: Vec::new(), more: Vec::new() };
        let Some(bytes) = region.copy_schema() else { return extras };
        let Ok(schema) = Schema::parse(&bytes) else { return extras };
        let mut reader = region.schema_reader();
        let is_known = |name| matches!(name, "libvirt_state" | "kvm") || key_of(name).is_some();
        for group in schema.groups().filter(|g| is_known(g.name)) {
            let record = schema.records().find(|r| r.kind == group.record);
            // As everywhere: the schema may say that there are more records than the region holds.
            let Some(record) = record.filter(|r| r.fits(region.mem().len())) else { continue };
            for index in 0..record.nr {
                let reading = reader.read(&record, index, &group);
                let Ok(Reading::Active(sample)) = reading else { continue };
                if group.name == "libvirt_state" {
                    if let [state, reason] = sample.words {
                        extras.state = Some([*state, *reason].map(Word::from_raw));
                    }
                } else if let Some(key) = key_of(group.name) {
                    extras.more.extend(plain(&schema, &group, sample.words, key));
                } else if record.kind == RecordKind::ArchVcpu.number() {
                    let at = usize::try_from(index).unwrap_or(usize::MAX);
                    extras.vcpus.resize(extras.vcpus.len().max(at.saturating_add(1)), Vec::new());
                    if let Some(vcpu) = extras.vcpus.get_mut(at) {
                        *vcpu = numbers(&schema, &group, sample.words);
                    }
                } else {
                    extras.vm = numbers(&schema, &group, sample.words);
                }
            }
        }
        extras
    }

    /// Time that halted vCPUs spent polling before they slept, in vain or not: libvirt's sum over all.
    fn halt_poll(&self, result: &str) -> Word {
        let name = format!("halt_poll_{result}_ns.sum");
        let of_vcpu = |numbers: &Vec<(String, String)>| {
            numbers.iter().find(|(key, _)| *key == name)?.1.parse::<u64>().ok()
        };
        let times = self.vcpus.iter().filter_map(of_vcpu);
        times.reduce(|sum, time| sum.saturating_add(time)).into()
    }
}

/// The key of a field of a group that has libvirt's values.
type Key = fn(&str) -> String;

/// How the keys of such a group are made of its fields' names.
fn key_of(group: &str) -> Option<Key> {
    match group {
        "libvirt_iothreads" => Some(|field| match field.rsplit_once('_') {
            // `poll_max_ns_1` of IOThread 1.
            Some((field, id)) => format!("iothread.{id}.{}", field.replace('_', "-")),
            None => format!("iothread.{field}"),
        }),
        "libvirt_dirty_rate" => Some(|field| format!("dirtyrate.{field}")),
        _ => None,
    }
}

/// How libvirt names the number of a way to measure the dirty rate.
const DIRTY_RATE_MODES: [&str; 3] = ["page-sampling", "dirty-bitmap", "dirty-ring"];

/// The numbers of a group that is not more than them.
fn plain(
    schema: &Schema<'_>,
    group: &SchemaGroup<'_>,
    words: &[u64],
    key: Key,
) -> Vec<(String, String)> {
    let number = |field: SchemaField<'_>| {
        let at = field.offset.checked_sub(group.offset + GROUP_HEADER_LEN)? / 8;
        let value = Word::from_raw(*words.get(at)?).value()?;
        let mode = usize::try_from(value).ok().and_then(|at| DIRTY_RATE_MODES.get(at));
        let text = match (field.name, mode) {
            ("calc_mode", Some(mode)) => (*mode).to_owned(),
            _ => value.to_string(),
        };
        Some((key(field.name), text))
    };
    schema.fields(group).filter_map(number).collect()
}

/// The single numbers of a group as libvirt names them: sums, maxima, and what is current.
fn numbers(schema: &Schema<'_>, group: &SchemaGroup<'_>, words: &[u64]) -> Vec<(String, String)> {
    let number = |field: SchemaField<'_>| {
        let suffix = match field.shape.kind {
            FieldKind::CUMULATIVE => "sum",
            FieldKind::PEAK => "max",
            FieldKind::INSTANT => "cur",
            _ => return None,
        };
        let at = field.offset.checked_sub(group.offset + GROUP_HEADER_LEN)? / 8;
        let value = Word::from_raw(*words.get(at)?).value()?;
        let text = match (field.shape.unit, value) {
            (FieldUnit::BOOLEAN, 0) => "no".to_owned(),
            (FieldUnit::BOOLEAN, _) => "yes".to_owned(),
            _ => value.to_string(),
        };
        Some((format!("{}.{suffix}", field.name), text))
    };
    schema.fields(group).filter_map(number).collect()
}

fn balloon<W: Write>(keys: &mut Keys<'_, W>, memory: &Memory) -> std::io::Result<()> {
    keys.kib("balloon.current", memory.current_bytes)?;
    keys.kib("balloon.maximum", memory.maximum_bytes)?;
    keys.kib("balloon.swap_in", memory.swap_in_bytes)?;
    keys.kib("balloon.swap_out", memory.swap_out_bytes)?;
    keys.word("balloon.major_fault", memory.major_faults)?;
    keys.word("balloon.minor_fault", memory.minor_faults)?;
    keys.kib("balloon.unused", memory.unused_bytes)?;
    keys.kib("balloon.available", memory.available_bytes)?;
    keys.kib("balloon.usable", memory.usable_bytes)?;
    keys.kib("balloon.rss", memory.rss_bytes)
}

/// What libvirt prints of the balloon driver's further statistics.
fn balloon_more<W: Write>(
    keys: &mut Keys<'_, W>,
    balloon: &Balloon,
    now: Option<Ns>,
) -> std::io::Result<()> {
    let last = balloon.last_update_ns.value().zip(now);
    let age = last.map(|(last, now)| Duration::from_nanos(now.since(Ns(last))));
    let stamp = age.and_then(|age| SystemTime::now().checked_sub(age));
    let stamp = stamp.and_then(|stamp| stamp.duration_since(SystemTime::UNIX_EPOCH).ok());
    keys.word("balloon.last-update", Word::from(stamp.map(|stamp| stamp.as_secs())))?;
    keys.kib("balloon.disk_caches", balloon.disk_caches_bytes)?;
    keys.word("balloon.hugetlb_pgalloc", balloon.hugetlb_pgalloc)?;
    keys.word("balloon.hugetlb_pgfail", balloon.hugetlb_pgfail)
}

/// State and reason in the numbers of libvirt's virDomainState and virDomain*Reason; no reason
/// where libvirt has none of that meaning.
fn libvirt_state(status: &Status) -> [Word; 2] {
    let name = |names: &[&'static str], word: Word| {
        usize::try_from(word.value()?).ok().and_then(|i| names.get(i).copied())
    };
    let state = match name(STATUS_NAMES, status.state) {
        Some("running") => Some(1),
        Some("paused" | "io_error" | "migrating") => Some(3),
        Some("dying") => Some(4),
        Some("shutdown") => Some(5),
        Some("crashed") => Some(6),
        Some("suspended") => Some(7),
        Some(_) => Some(0),
        None => None,
    };
    let reason = match (state, name(REASON_NAMES, status.reason)) {
        (Some(1), Some("started")) => Some(1),
        (Some(3), Some("user")) => Some(1),
        (Some(3), Some("migration")) => Some(2),
        (Some(3), Some("saved")) => Some(3),
        (Some(3), Some("io_error" | "no_space")) => Some(5),
        (Some(3), Some("watchdog")) => Some(6),
        (Some(3), Some("snapshot")) => Some(9),
        (Some(3), Some("panic")) => Some(10),
        (Some(6), Some("panic")) => Some(1),
        (Some(_), Some("unknown")) => Some(0),
        _ => None,
    };
    [Word::from(state), Word::from(reason)]
}

fn vcpus<W: Write>(
    keys: &mut Keys<'_, W>,
    snapshot: &Snapshot,
    extras: &Extras,
) -> std::io::Result<()> {
    let plugged: Vec<u32> = (0..snapshot.nr_vcpus())
        .filter(|i| snapshot.vcpu(*i).and_then(|v| vcpu::<Runstate>(&v)).is_some())
        .collect();
    keys.text("vcpu.current", &plugged.len().to_string())?;
    keys.text("vcpu.maximum", &snapshot.nr_vcpus().to_string())?;
    for index in plugged {
        keys.word(&format!("vcpu.{index}.state"), Word::new(VCPU_RUNNING))?;
        if let Some(sched) = snapshot.vcpu(index).and_then(|v| vcpu::<Sched>(&v)) {
            keys.word(&format!("vcpu.{index}.time"), sched.time_ns)?;
            keys.word(&format!("vcpu.{index}.wait"), sched.wait_ns)?;
            keys.word(&format!("vcpu.{index}.delay"), sched.delay_ns)?;
        }
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        for (key, value) in extras.vcpus.get(at).into_iter().flatten() {
            keys.text(&format!("vcpu.{index}.{key}"), value)?;
        }
    }
    Ok(())
}

fn nets<W: Write>(keys: &mut Keys<'_, W>, snapshot: &Snapshot) -> std::io::Result<()> {
    let records = (0..snapshot.nr_nets()).filter_map(|i| snapshot.net(i));
    let shown: Vec<_> = records
        .filter_map(|r| {
            let name = r.net_group::<NetIdentity>().ok()?.active()?.name;
            Some((name, r.net_group::<NetIo>().ok()?.active()))
        })
        .collect();
    keys.text("net.count", &shown.len().to_string())?;
    for (n, (name, io)) in shown.iter().enumerate() {
        keys.text(&format!("net.{n}.name"), name.as_str().unwrap_or("-"))?;
        let Some(io) = io else { continue };
        let words = [
            ("rx.bytes", io.rx_bytes),
            ("rx.pkts", io.rx_packets),
            ("rx.errs", io.rx_errs),
            ("rx.drop", io.rx_drop),
            ("tx.bytes", io.tx_bytes),
            ("tx.pkts", io.tx_packets),
            ("tx.errs", io.tx_errs),
            ("tx.drop", io.tx_drop),
        ];
        for (key, word) in words {
            keys.word(&format!("net.{n}.{key}"), word)?;
        }
    }
    Ok(())
}

fn blks<W: Write>(
    keys: &mut Keys<'_, W>,
    region: &Region,
    snapshot: &Snapshot,
    backing: bool,
) -> std::io::Result<()> {
    let records = (0..snapshot.nr_blks()).filter_map(|i| Some((i, snapshot.blk(i)?)));
    let named: Vec<_> = records
        .filter_map(|(i, r)| Some((blk::<BlkIdentity>(&r)?.name.as_str()?.to_owned(), (i, r))))
        .filter(|(name, _)| backing || !name.ends_with(']'))
        .collect();
    let shown = by_disk(named);
    keys.text("block.count", &shown.len().to_string())?;
    let distributions = Distributions::of(region);
    for (n, (name, (slot, record))) in shown.iter().enumerate() {
        let key = |key: &str| format!("block.{n}.{key}");
        let (disk, index) = disk_and_image(name);
        keys.text(&key("name"), disk)?;
        if let Some(index) = index {
            keys.text(&key("backingIndex"), index)?;
        }
        let io = blk::<BlkIo>(record);
        let times = blk::<BlkIoTimes>(record);
        let extent = blk::<BlkExtent>(record);
        let of_io = |get: fn(&BlkIo) -> Word| io.as_ref().map_or(Word::NOT_PRODUCED, get);
        let of_times =
            |get: fn(&BlkIoTimes) -> Word| times.as_ref().map_or(Word::NOT_PRODUCED, get);
        let of_extent =
            |get: fn(&BlkExtent) -> Word| extent.as_ref().map_or(Word::NOT_PRODUCED, get);
        keys.word(&key("rd.reqs"), of_io(|g| g.rd_req))?;
        keys.word(&key("rd.bytes"), of_io(|g| g.rd_bytes))?;
        keys.word(&key("rd.times"), of_times(|g| g.rd_total_ns))?;
        keys.word(&key("wr.reqs"), of_io(|g| g.wr_req))?;
        keys.word(&key("wr.bytes"), of_io(|g| g.wr_bytes))?;
        keys.word(&key("wr.times"), of_times(|g| g.wr_total_ns))?;
        keys.word(&key("fl.reqs"), of_times(|g| g.flush_req))?;
        keys.word(&key("fl.times"), of_times(|g| g.flush_total_ns))?;
        keys.word(&key("errors"), of_io(|g| g.errs))?;
        keys.word(&key("allocation"), of_extent(|g| g.allocation_bytes))?;
        keys.word(&key("capacity"), of_extent(|g| g.capacity_bytes))?;
        keys.word(&key("physical"), of_extent(|g| g.physical_bytes))?;
        let threshold = of_extent(|g| g.threshold_bytes);
        // As libvirt: only while one is armed.
        keys.word(&key("threshold"), Word::from(threshold.value().filter(|t| *t > 0)))?;
        for (operation, counts) in ["read", "write", "flush"].iter().zip(distributions.blk(*slot)) {
            let Some(counts) = counts else { continue };
            let bin = |rest: &str| key(&format!("latency_histogram.{operation}.bin.{rest}"));
            keys.word(&bin("count"), Word::from(counts.len() as u64))?;
            for (i, count) in counts.iter().enumerate() {
                let start = domstat_layout::histogram::bounds(i, counts.len());
                keys.word(&bin(&format!("{i}.start")), Word::from(start.map(|(least, _)| least)))?;
                keys.word(&bin(&format!("{i}.value")), Word::from(*count))?;
            }
        }
    }
    Ok(())
}

/// The disk of an image, and which image of its chain it is if it backs another: `vda[1]`.
fn disk_and_image(name: &str) -> (&str, Option<&str>) {
    let split = name.strip_suffix(']').and_then(|name| name.rsplit_once('['));
    split.map_or((name, None), |(disk, index)| (disk, Some(index)))
}

/// Disks in the order of their slots, each followed by the images that back it, as libvirt lists
/// them. Slots alone do not do: an image that a snapshot adds gets the next free one.
fn by_disk<R>(mut named: Vec<(String, R)>) -> Vec<(String, R)> {
    let disks: Vec<_> = named.iter().map(|(name, _)| disk_and_image(name).0.to_owned()).collect();
    named.sort_by_cached_key(|(name, _)| {
        let (disk, index) = disk_and_image(name);
        let first = disks.iter().position(|other| other == disk);
        (first, index.map(|index| index.parse::<u64>().unwrap_or(u64::MAX)))
    });
    named
}

fn vcpu<G: VcpuGroup>(record: &SnapshotRecord<'_>) -> Option<G> {
    record.vcpu_group::<G>().ok()?.active().map(|sample| sample.group)
}

fn blk<G: BlkGroup>(record: &SnapshotRecord<'_>) -> Option<G> {
    record.blk_group::<G>().ok()?.active().map(|sample| sample.group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_follow_their_disk_whatever_their_slots() {
        let slots = ["vda", "vdb", "vdb[1]", "vda[10]", "vda[2]", "hdc", "vda[1]"];
        let named = slots.map(|name| (name.to_owned(), ())).to_vec();
        let names: Vec<_> = by_disk(named).into_iter().map(|(name, ())| name).collect();
        assert_eq!(names, ["vda", "vda[1]", "vda[2]", "vda[10]", "vdb", "vdb[1]", "hdc"]);
    }
}
