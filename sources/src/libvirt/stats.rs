//! Statistics of a domain, from the names and values that libvirt lists.

use std::collections::BTreeMap;

use domstat_layout::latest::{Balloon, BlkIo, BlkIoTimes, BlkLimits, Cpu, Memory, NetIo};
use domstat_layout::{Group, Ns, Word};

use super::measured::{DirtyRate, IoThread, KvmStats};
use super::params::{Item, items, number, text};
use super::sys::{Info, Param};
use crate::qemu::limits::{MAX_CPUS, MAX_IMAGES, MAX_TAPS};

/// What one answer of libvirt says. What it leaves out is absent here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stats {
    /// virDomainState, and why.
    pub(super) state: Option<(u64, u64)>,
    pub(super) cpu: Option<Cpu>,
    pub(super) memory: Option<Memory>,
    pub(super) balloon: Option<Reported>,
    /// The most vCPUs that the domain can have.
    pub(super) max_vcpus: Option<u32>,
    pub(super) vcpus: BTreeMap<u32, Vcpu>,
    /// Interfaces with a name, as the domain sees them.
    pub(super) nets: Option<Vec<(String, NetIo)>>,
    /// Images, each disk before those that back it.
    pub(super) images: Option<Vec<Image>>,
    /// KVM's statistics of the domain, and of each vCPU.
    pub(super) kvm: KvmStats,
    pub(super) kvm_vcpus: BTreeMap<u32, KvmStats>,
    /// IOThreads by their numbers, if there is an answer.
    pub(super) iothreads: Option<BTreeMap<u32, IoThread>>,
    pub(super) dirty_rate: Option<DirtyRate>,
}

/// Times of a vCPU in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Vcpu {
    pub(super) time: Option<u64>,
    pub(super) delay: Option<u64>,
}

/// What the balloon's driver in the guest reported, and when, in seconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reported {
    group: Balloon,
    last_update_s: u64,
}

impl Reported {
    /// The group. `now` is the region's clock and `now_s` the host's at one moment.
    pub(super) fn group(&self, now: Ns, now_s: u64) -> Balloon {
        // The host's clock may have been set back since.
        let age_ns = now_s.saturating_sub(self.last_update_s).checked_mul(1_000_000_000);
        let last_update_ns = age_ns.and_then(|age| now.0.checked_sub(age)).into();
        Balloon { last_update_ns, ..self.group }
    }
}

/// An image: a disk's own, or one that backs it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Image {
    /// `vda`, and `vda[3]` for the image that backs it and that libvirt numbers 3.
    pub(super) name: String,
    /// The disk.
    pub(super) disk: String,
    /// libvirt's number, as far as it has one.
    pub(super) index: Option<u64>,
    /// How many images lie above it.
    pub(super) depth: usize,
    pub(super) path: Option<String>,
    /// Whether libvirt has asked QEMU for it. A threshold that is not listed is none only then.
    pub(super) is_answered: bool,
    pub(super) io: BlkIo,
    pub(super) times: BlkIoTimes,
    pub(super) allocation: Option<u64>,
    pub(super) capacity: Option<u64>,
    pub(super) physical: Option<u64>,
    pub(super) threshold: Option<u64>,
}

impl Image {
    /// The image, whatever becomes of the chain above it: libvirt gives no number twice.
    pub(super) fn key(&self) -> String {
        image_key(&self.disk, self.index)
    }
}

/// The key of an image with or without a number.
pub(super) fn image_key(disk: &str, index: Option<u64>) -> String {
    index.map_or_else(|| disk.to_owned(), |index| format!("{disk}[{index}]"))
}

/// Disk and number of a name as libvirt's events have it: `vda`, `vda[3]`.
pub(super) fn disk_and_index(name: &str) -> (&str, Option<u64>) {
    let split = name.strip_suffix(']').and_then(|name| name.rsplit_once('['));
    let indexed = split.and_then(|(disk, index)| Some((disk, Some(index.parse().ok()?))));
    indexed.unwrap_or((name, None))
}

impl Stats {
    /// Takes what libvirt lists.
    pub(super) fn new(params: &[(String, Param)]) -> Self {
        let all: Item<'_> = params.iter().map(|(name, param)| (name.as_str(), param)).collect();
        let number_of = |key: &str| number(&all, key);
        let state = number_of("state.state").zip(number_of("state.reason"));
        let cpu = number_of("cpu.time").map(|time| Cpu {
            time_ns: Word::new(time),
            user_ns: number_of("cpu.user").into(),
            system_ns: number_of("cpu.system").into(),
            vcpus_ns: Word::NOT_PRODUCED,
        });
        let max_vcpus = number_of("vcpu.maximum").and_then(|n| u32::try_from(n).ok());
        let vcpus = items(params, "vcpu", MAX_CPUS);
        let vcpu =
            |item: &Item<'_>| Vcpu { time: number(item, "time"), delay: number(item, "delay") };
        let most = u32::try_from(MAX_TAPS).unwrap_or(u32::MAX);
        let nets = number_of("net.count").map(|_| {
            let nets = items(params, "net", most);
            nets.values().filter_map(|item| Some((text(item, "name")?, net_io(item)))).collect()
        });
        let kvm =
            params.iter().filter_map(|(name, param)| Some((name.strip_prefix("vm.")?, param)));
        let iothreads = number_of("iothread.count")
            .map(|_| items(params, "iothread", u32::MAX).iter().map(io_thread).collect());
        Self {
            kvm: KvmStats::new(kvm),
            kvm_vcpus: vcpus
                .iter()
                .map(|(index, item)| (*index, KvmStats::new(item.iter().map(|(k, v)| (*k, *v)))))
                .collect(),
            iothreads,
            dirty_rate: DirtyRate::new(&all),
            state,
            cpu,
            memory: memory(&all),
            balloon: balloon(&all),
            max_vcpus,
            vcpus: vcpus.iter().map(|(index, item)| (*index, vcpu(item))).collect(),
            nets,
            images: number_of("block.count").map(|_| images(params)),
        }
    }
}

impl Stats {
    /// Adds what every driver knows where nothing better was listed.
    pub(super) fn complete(&mut self, info: Info) {
        let bytes = |kib: u64| Word::from(kib.checked_mul(1024));
        self.memory.get_or_insert(Memory {
            current_bytes: bytes(info.memory_kib),
            maximum_bytes: bytes(info.max_memory_kib),
            ..Memory::NOT_PRODUCED
        });
        self.cpu.get_or_insert(Cpu { time_ns: Word::new(info.cpu_ns), ..Cpu::NOT_PRODUCED });
        for index in 0..info.vcpus.min(MAX_CPUS) {
            self.vcpus.entry(index).or_default();
        }
    }
}

fn memory(all: &Item<'_>) -> Option<Memory> {
    let bytes = |key: &str| Word::from(number(all, key).and_then(|kib| kib.checked_mul(1024)));
    let count = |key: &str| Word::from(number(all, key));
    let memory = Memory {
        current_bytes: bytes("balloon.current"),
        maximum_bytes: bytes("balloon.maximum"),
        rss_bytes: bytes("balloon.rss"),
        unused_bytes: bytes("balloon.unused"),
        available_bytes: bytes("balloon.available"),
        usable_bytes: bytes("balloon.usable"),
        swap_in_bytes: bytes("balloon.swap_in"),
        swap_out_bytes: bytes("balloon.swap_out"),
        major_faults: count("balloon.major_fault"),
        minor_faults: count("balloon.minor_fault"),
    };
    (memory.current_bytes != Word::NOT_PRODUCED).then_some(memory)
}

fn balloon(all: &Item<'_>) -> Option<Reported> {
    // 0: it has not reported yet.
    let last_update_s = number(all, "balloon.last-update").filter(|s| *s > 0)?;
    let kib = number(all, "balloon.disk_caches");
    let group = Balloon {
        disk_caches_bytes: kib.and_then(|kib| kib.checked_mul(1024)).into(),
        hugetlb_pgalloc: number(all, "balloon.hugetlb_pgalloc").into(),
        hugetlb_pgfail: number(all, "balloon.hugetlb_pgfail").into(),
        ..Balloon::NOT_PRODUCED
    };
    Some(Reported { group, last_update_s })
}

fn io_thread((id, item): (&u32, &Item<'_>)) -> (u32, IoThread) {
    (*id, IoThread(["poll-max-ns", "poll-grow", "poll-shrink"].map(|key| number(item, key))))
}

/// The limits of a disk, from what virDomainGetBlockIoTune lists.
pub(super) fn limits(params: &[(String, Param)]) -> BlkLimits {
    let all: Item<'_> = params.iter().map(|(name, param)| (name.as_str(), param)).collect();
    let word = |key: &str| Word::from(number(&all, key));
    BlkLimits {
        limit_req: word("total_iops_sec"),
        rd_limit_req: word("read_iops_sec"),
        wr_limit_req: word("write_iops_sec"),
        limit_bytes: word("total_bytes_sec"),
        rd_limit_bytes: word("read_bytes_sec"),
        wr_limit_bytes: word("write_bytes_sec"),
        ..BlkLimits::NOT_PRODUCED
    }
}

fn net_io(item: &Item<'_>) -> NetIo {
    let word = |key: &str| Word::from(number(item, key));
    NetIo {
        rx_bytes: word("rx.bytes"),
        rx_packets: word("rx.pkts"),
        rx_errs: word("rx.errs"),
        rx_drop: word("rx.drop"),
        tx_bytes: word("tx.bytes"),
        tx_packets: word("tx.pkts"),
        tx_errs: word("tx.errs"),
        tx_drop: word("tx.drop"),
    }
}

fn images(params: &[(String, Param)]) -> Vec<Image> {
    let most = u32::try_from(MAX_IMAGES).unwrap_or(u32::MAX);
    let mut images: Vec<Image> = Vec::new();
    for item in items(params, "block", most).values() {
        let Some(disk) = text(item, "name") else { continue };
        // A disk comes before the images that back it, which have its name.
        let depth = images.iter().filter(|image| image.disk == disk).count();
        let index = number(item, "backingIndex");
        let name = match (depth, index) {
            (0, _) => disk.clone(),
            (_, Some(index)) => image_key(&disk, Some(index)),
            (depth, None) => format!("{disk}[-{depth}]"),
        };
        let word = |key: &str| Word::from(number(item, key));
        images.push(Image {
            name,
            index,
            depth,
            path: text(item, "path"),
            is_answered: number(item, "rd.reqs").is_some() || number(item, "capacity").is_some(),
            io: BlkIo {
                rd_req: word("rd.reqs"),
                rd_bytes: word("rd.bytes"),
                wr_req: word("wr.reqs"),
                wr_bytes: word("wr.bytes"),
                errs: word("errors"),
                in_flight: Word::NOT_PRODUCED,
            },
            times: BlkIoTimes {
                rd_total_ns: word("rd.times"),
                wr_total_ns: word("wr.times"),
                flush_req: word("fl.reqs"),
                flush_total_ns: word("fl.times"),
            },
            allocation: number(item, "allocation"),
            capacity: number(item, "capacity"),
            physical: number(item, "physical"),
            threshold: number(item, "threshold"),
            disk,
        });
    }
    images
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(name: &str, value: u64) -> (String, Param) {
        (name.to_owned(), Param::Unsigned(value))
    }

    fn named(name: &str, text: &str) -> (String, Param) {
        (name.to_owned(), Param::Text(text.to_owned()))
    }

    #[test]
    fn a_disk_has_its_name_and_what_backs_it_libvirts_number() {
        let stats = Stats::new(&[
            param("block.count", 3),
            named("block.0.name", "vda"),
            param("block.0.backingIndex", 5),
            param("block.0.rd.reqs", 7),
            param("block.0.threshold", 10),
            named("block.1.name", "vda"),
            param("block.1.backingIndex", 3),
            named("block.2.name", "hda"),
        ]);
        let images = stats.images.unwrap();
        let seen: Vec<_> =
            images.iter().map(|i| (i.name.as_str(), i.key(), i.depth, i.is_answered)).collect();
        assert_eq!(
            seen,
            [
                ("vda", "vda[5]".to_owned(), 0, true),
                ("vda[3]", "vda[3]".to_owned(), 1, false),
                ("hda", "hda".to_owned(), 0, false),
            ]
        );
        let first = images.first().unwrap();
        assert_eq!((first.io.rd_req.value(), first.io.wr_req.value()), (Some(7), None));
        assert_eq!(first.threshold, Some(10));
    }

    #[test]
    fn what_is_not_listed_is_not_produced() {
        let none = Stats::new(&[]);
        assert_eq!(none, Stats::default());
        let stats = Stats::new(&[param("balloon.current", 2), param("balloon.last-update", 0)]);
        let memory = stats.memory.unwrap();
        assert_eq!(memory.current_bytes.value(), Some(2048));
        assert_eq!(memory.unused_bytes, Word::NOT_PRODUCED);
        assert_eq!(stats.balloon, None, "the guest has not reported");
        let stats = Stats::new(&[param("net.count", 1), param("net.0.rx.bytes", 1)]);
        assert_eq!(stats.nets, Some(Vec::new()), "an interface without a name on the host");
    }

    #[test]
    fn numbers_beyond_the_limits_and_of_other_kinds_are_left_out() {
        let stats = Stats::new(&[
            param("vcpu.4294967295.time", 1),
            ("vcpu.0.time".to_owned(), Param::Signed(-1)),
            named("block.count", "x"),
        ]);
        assert_eq!(stats.vcpus.len(), 1);
        assert_eq!(stats.vcpus.get(&0), Some(&Vcpu::default()));
        assert_eq!(stats.images, None);
    }

    #[test]
    fn limits_are_those_of_a_disk_and_0_is_none() {
        let limits = limits(&[
            param("total_bytes_sec", 0),
            param("write_iops_sec", 100),
            param("write_iops_sec_max", 900),
            named("group_name", "drive-virtio-disk0"),
        ]);
        assert_eq!((limits.limit_bytes.value(), limits.wr_limit_req.value()), (Some(0), Some(100)));
        assert_eq!(limits.rd_limit_req, Word::NOT_PRODUCED);
        assert_eq!(limits.throttled_ns, Word::NOT_PRODUCED);
    }

    #[test]
    fn names_of_events_are_split_at_the_number() {
        assert_eq!(disk_and_index("vda[3]"), ("vda", Some(3)));
        assert_eq!(disk_and_index("vda"), ("vda", None));
        assert_eq!(disk_and_index("a[b]"), ("a[b]", None));
    }

    #[test]
    fn a_report_is_as_old_as_the_host_says() {
        let params = [param("balloon.last-update", 90), param("balloon.disk_caches", 1)];
        let reported = Stats::new(&params).balloon.unwrap();
        let group = reported.group(Ns(50_000_000_000), 100);
        assert_eq!(group.last_update_ns.value(), Some(40_000_000_000));
        assert_eq!(group.disk_caches_bytes.value(), Some(1024));
        assert_eq!(reported.group(Ns(1), 100).last_update_ns.value(), None, "before the boot");
    }
}
