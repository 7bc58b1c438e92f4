//! A micro-VM of our own through /dev/kvm: the source that needs no other VMM.
//!
//! It has a small disk and no kernel. Each vCPU runs a few bytes of real-mode code that compute, do
//! port I/O, read, write and flush the disk and, unless the vCPU is one of the busy ones, halt until
//! a timer of the VMM, the end of a request or a [kick](KvmProbe::kick) wakes it.
//!
//! Each vCPU has a thread, which owns the vCPU's sink and writes the runstate as it changes:
//!
//! * `running` in KVM_RUN and while its port I/O is handled;
//! * `blocked` from the halt to the wake-up;
//! * `runnable` from the wake-up until it is back in KVM_RUN, and whatever the host's scheduler
//!   accounted as the thread's wait for a CPU (steal: the second number of
//!   /proc/thread-self/schedstat), which is taken from the state in which it passed;
//! * `offline` until the thread runs for the first time, and after it has ended.
//!
//! A thread cannot write that it is not running: steal shows in the times afterwards, never as
//! `state`. A vCPU that runs on is brought up to date every 10 ms to 20 ms. On a host without
//! schedstat (CONFIG_SCHED_INFO) steal cannot be recognized and stays in the state it passed in.
//!
//! The time in `runnable` is published wait by wait, too, in the distribution `wait`, whose sum it
//! is. Waits for a CPU that lie between two looks are told apart by their number only.
//!
//! The disk is a file in memory that two threads serve, one for each queue. Each writes its share
//! of the device; the device's own groups are their sum at each tick.
//!
//! Every statistic that the kernel describes (KVM's binary statistics) is published, by the
//! kernel's name for it, in the arch slots: of the VM at each tick, of a vCPU by its thread, at most
//! once in 10 ms. Nothing of it is known here. On kernels before 5.14 there is none.
//!
//! With them a vCPU's thread writes the group `exits`: port I/O, halts and signals as the VMM counts
//! them, everything else as KVM does; without KVM's statistics the latter are not produced.
//!
//! The arch slot of a vCPU has the id and the name of its thread, too.
//!
//! With [the interrupt controller in the kernel](KvmOptions::kernel_irqchip), as other VMMs have it,
//! vCPUs halt in KVM_RUN until a timer of the kernel wakes them. Their threads see none of that, so
//! the VM's own thread samples the kernel's books of them. When a state was entered is not
//! produced then, `halt_exits` are KVM's, and the end of a request or a kick wakes nobody.
//!
//! The threads use the first real-time signal; its handler, which does nothing, stays installed.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use domstat_layout::latest::{BlkExtent, BlkIdentity, Memory, RunState, Threads as ThreadGroup};
use domstat_layout::sink::{BlkShareSink, BlkSink, DomSink, NetSink, NoSink, VcpuSink};
use domstat_layout::{Clock, Group, Name, Ns, Word};
use kvm_bindings::{CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, kvm_regs};
use kvm_ioctls::Kvm;
use memmap2::MmapMut;
use procfs::process::Process;
use uuid::Uuid;

use crate::cgroup::Cgroup;
use crate::contract::Optional;
use crate::host::{check_interval, check_name, check_sinks, now};
use crate::status::{DomainStatus, Reason, State};
use crate::threads::ThreadTimes;
use crate::{Description, Devices, Progress, Running, Source, SourceError, thread_group};

mod account;
mod books;
mod disk;
mod exits;
mod kernel_irqchip;
mod probe;
mod program;
mod published;
mod shared;
mod stats_fd;
mod sys;
mod threads;
mod vcpu;
mod waits;

use account::Account;
use books::{Books, Totals};
use disk::{NR_QUEUES, Ports, Queue, QueueThread};
use kernel_irqchip::{Sample, SampledVcpu, Sampler};
pub use probe::{DiskCounts, KvmProbe, VcpuCounts};
use published::Published;
use shared::VcpuShared;
use stats_fd::Buffer;
pub use stats_fd::{KvmStat, StatsFd};
use sys::{Vcpu, Vm, os};
use threads::{Body, Threads};
use vcpu::{Guest, REFRESH_NS, VcpuThread};

/// The domain's memory in bytes; the program needs the first two pages.
const MEMORY_BYTES: usize = 64 << 10;
/// Where Intel processors without unrestricted guests may keep three pages of their own.
const TSS_ADDRESS: usize = 0xfffb_d000;

/// The group in the arch slots that holds what KVM itself describes.
const ARCH_GROUP: &str = "kvm";
/// Its place in a vCPU's arch slot.
const ARCH_KVM: usize = thread_group::INDEX + 1;

/// Shares of the disk: one for each queue.
const NR_SHARES: u32 = 2;
const _: () = assert!(NR_SHARES as usize == NR_QUEUES);

/// What the disk is called.
const DISK: &str = "vda";

/// How the vCPUs use the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskLoad {
    /// The VM has no disk.
    NoDisk,
    /// Each vCPU has this many turns, each with two reads, a write and a flush of a block.
    Turns(u16),
    /// Turns without end.
    Endless,
}

/// What the micro-VM is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvmOptions {
    /// The domain's name; not empty, no `/`.
    pub name: String,
    /// Its UUID, in textual byte order; without it a random one.
    pub uuid: Option<[u8; 16]>,
    /// How many vCPUs it has, all from the start.
    pub nr_vcpus: u32,
    /// How many of them, from the first on, are busy: they never halt.
    pub nr_busy: u32,
    /// How they use the disk.
    pub disk: DiskLoad,
    /// Whether the kernel has the interrupt controller: then no halt leaves KVM_RUN.
    pub kernel_irqchip: bool,
    /// How often [`Running::tick`] wants to be called. vCPUs do not wait for it.
    pub interval: Duration,
}

impl Default for KvmOptions {
    /// Two vCPUs, the first of them busy, a disk, `micro-vm`, a tick per second, the interrupt
    /// controller in the VMM.
    fn default() -> Self {
        let name = "micro-vm".to_owned();
        let (disk, interval) = (DiskLoad::Endless, Duration::from_secs(1));
        let kernel_irqchip = false;
        Self { name, uuid: None, nr_vcpus: 2, nr_busy: 1, disk, kernel_irqchip, interval }
    }
}

/// A micro-VM that is ready to run.
///
/// `domid` is the id of this process, `created` the time of [`KvmSource::new`], and the UUID is
/// random unless one is given.
pub struct KvmSource {
    description: Description,
    interval: Duration,
    nr_busy: u32,
    kernel_irqchip: bool,
    // Declared before `vm`: nothing runs after the VM is dropped.
    vcpus: Vec<Vcpu>,
    _vm: Vm,
    vm_stats: Option<StatsFd>,
    shared: Arc<[Arc<VcpuShared>]>,
    queues: Arc<[Queue; NR_QUEUES]>,
    disk: Option<File>,
}

impl KvmSource {
    /// Whether /dev/kvm can be used here.
    ///
    /// # Errors
    /// [`SourceError`] that says why it cannot: missing, no permission, or not the API that
    /// every Linux since 2.6.22 has.
    pub fn available() -> Result<(), SourceError> {
        open_kvm().map(|_| ())
    }

    /// Makes the VM with its memory and its vCPUs; nothing runs yet.
    ///
    /// # Errors
    /// [`SourceError::BadParameter`] for options out of range, otherwise as
    /// [`available`](KvmSource::available), or what KVM says.
    pub fn new(options: &KvmOptions) -> Result<Self, SourceError> {
        check_name(&options.name)?;
        let interval = check_interval(options.interval)?;
        let kvm = open_kvm()?;
        check_nr_vcpus(options.nr_vcpus, kvm.get_max_vcpus())?;
        let created = now(Clock::Monotonic);
        let vm = create_vm(&kvm, options.kernel_irqchip)
            .map_err(|source| failed("create a VM with /dev/kvm", source))?;
        let cpuid = options.kernel_irqchip.then(|| supported_cpuid(&kvm)).transpose()?;
        let mut vcpus = Vec::new();
        let mut shared = Vec::new();
        for id in 0..options.nr_vcpus {
            let vcpu = create_vcpu(&vm, id, options, cpuid.as_ref())
                .map_err(|source| failed(&format!("create vCPU {id} with /dev/kvm"), source))?;
            // Kernels before 5.14 have no statistics descriptor; the source does without.
            let stats = StatsFd::open(vcpu.fd()).ok();
            shared.push(Arc::new(VcpuShared::new(stats)));
            vcpus.push(vcpu);
        }
        let disk = (options.disk != DiskLoad::NoDisk)
            .then(disk::file)
            .transpose()
            .map_err(|source| failed("make the disk", source))?;
        let nr_blks = u32::from(disk.is_some());
        let vm_stats = StatsFd::open(vm.fd()).ok();
        let group = |stats: &StatsFd| stats.group(ARCH_GROUP);
        let first = shared.first().and_then(|vcpu| vcpu.stats.as_ref());
        let arch_dom = vm_stats.as_ref().and_then(group).into_iter().collect();
        let arch_vcpu =
            std::iter::once(thread_group::group()).chain(first.and_then(group)).collect();
        let description = Description {
            source: "kvm",
            domid: Some(u64::from(std::process::id())),
            uuid: Some(options.uuid.unwrap_or_else(|| Uuid::new_v4().into_bytes())),
            name: options.name.clone(),
            created: Some(created),
            nr_vcpus: options.nr_vcpus,
            nr_blks,
            nr_nets: 0,
            clock: Clock::Monotonic,
            arch_dom,
            arch_vcpu,
            optional: Optional {
                vcpu_hist: true,
                blk_hist: disk.is_some(),
                nr_blk_shares: if disk.is_some() { NR_SHARES } else { 0 },
            },
            labels: Vec::new(),
        };
        let (shared, queues) = (shared.into(), Arc::default());
        Ok(Self {
            description,
            interval,
            nr_busy: options.nr_busy,
            kernel_irqchip: options.kernel_irqchip,
            vcpus,
            _vm: vm,
            vm_stats,
            shared,
            queues,
            disk,
        })
    }

    /// A look at the VM from outside of what it publishes.
    #[must_use]
    pub fn probe(&self) -> KvmProbe {
        KvmProbe { vcpus: Arc::clone(&self.shared), queues: Arc::clone(&self.queues) }
    }
}

impl Source for KvmSource {
    fn describe(&self) -> Description {
        self.description.clone()
    }

    fn start<D, V>(self, dom: D, vcpus: Vec<V>) -> Result<Box<dyn Running>, SourceError>
    where
        D: DomSink + 'static,
        V: VcpuSink + 'static,
    {
        self.start_with_devices(dom, vcpus, Devices::<NoSink, NoSink, NoSink>::default())
    }

    fn start_with_devices<D, V, B, N, Q>(
        self,
        mut dom: D,
        vcpus: Vec<V>,
        devices: Devices<B, N, Q>,
    ) -> Result<Box<dyn Running>, SourceError>
    where
        D: DomSink + 'static,
        V: VcpuSink + 'static,
        B: BlkSink + 'static,
        N: NetSink + 'static,
        Q: BlkShareSink + 'static,
    {
        check_sinks(self.description.nr_vcpus, vcpus.len())?;
        threads::prepare_kick_signal()
            .map_err(|source| failed("install a handler for the first real-time signal", source))?;
        let created = self.description.created.unwrap_or(Ns(0));
        let (mut bodies, mut sampled) = (Vec::<Body>::new(), Vec::new());
        for (index, ((vcpu, shared), mut sink)) in
            (0u32..).zip(self.vcpus.into_iter().zip(self.shared.iter()).zip(vcpus))
        {
            let guest = Guest {
                vcpu,
                shared: Arc::clone(shared),
                ports: Ports::new(Arc::clone(&self.queues)),
                signal: threads::kick_signal(),
            };
            let published = |sink| {
                let now = now(Clock::Monotonic);
                Published::new(sink, Arc::clone(shared), self.kernel_irqchip, now)
            };
            if self.kernel_irqchip {
                sampled.push(SampledVcpu::new(published(sink), created));
                bodies.push(Box::new(move || guest.run()));
                continue;
            }
            // Offline since the domain was created, until its thread runs.
            let mut account = Account::new(created);
            account.enter(RunState::Offline, now(Clock::Monotonic), None);
            sink.write(&account.runstate(), account.as_of());
            let (published, halt) = (published(sink), halt_time(index, self.nr_busy));
            let body = VcpuThread { guest, published, account, halt };
            bodies.push(Box::new(move || body.run()));
        }
        let sampler = self.kernel_irqchip.then(|| {
            let process = Process::myself().ok();
            Box::new(Sampler { vcpus: sampled, process }) as Box<dyn Sample>
        });
        write_memory(&mut dom);
        let mut vm_arch = ArchStats::default();
        vm_arch.write(self.vm_stats.as_ref(), now(Clock::Monotonic), |words, now| {
            dom.write_arch(0, words, now);
        });
        let (mut disk, mut queue_bodies) = (None, Vec::new());
        if let Some(file) = self.disk.map(Arc::new) {
            let mut shares = devices.shares.into_iter();
            for index in 0..NR_QUEUES {
                let (queues, file) = (Arc::clone(&self.queues), Arc::clone(&file));
                let books = Books::new(now(Clock::Monotonic));
                let mut body = QueueThread { queues, index, file, share: shares.next(), books };
                body.begin();
                queue_bodies.push(body);
            }
            let queues = Arc::clone(&self.queues);
            disk = devices.blks.into_iter().next().map(|sink| Disk::new(sink, file, queues));
        }
        let threads = Threads::start(self.shared, bodies, sampler, self.queues, queue_bodies)
            .map_err(|source| failed("start the threads of the VM", source))?;
        let name = self.description.name;
        let (interval, vm_stats) = (self.interval, self.vm_stats);
        let began = now(Clock::Monotonic);
        dom.write(&DomainStatus::new(State::Running, Reason::Started, Some(began)).group(), began);
        let mut running = RunningVm {
            dom,
            threads,
            interval,
            name,
            vm_stats,
            vm_arch,
            disk,
            process: Process::myself().ok(),
            times: ThreadTimes::default(),
            cgroup: Cgroup::default(),
            over: false,
        };
        running.sample();
        Ok(Box::new(running))
    }
}

/// The disk's own groups.
struct Disk<B> {
    sink: B,
    file: Arc<File>,
    queues: Arc<[Queue; NR_QUEUES]>,
    written: Ns,
}

impl<B: BlkSink> Disk<B> {
    fn new(mut sink: B, file: Arc<File>, queues: Arc<[Queue; NR_QUEUES]>) -> Self {
        let written = now(Clock::Monotonic);
        sink.write(&BlkIdentity { name: Name::new(DISK) }, written);
        let mut disk = Self { sink, file, queues, written };
        disk.write();
        disk
    }

    /// Writes the sum of what the queues' threads have published, and how far the file is filled.
    fn write(&mut self) {
        // The time before the queues are read: none of them is older.
        let now = now(Clock::Monotonic);
        let sum = Totals::sum(self.queues.iter().map(Queue::totals), now);
        self.written = sum.write_device(&mut self.sink, self.written);
        let allocated = self.file.metadata().ok().map(|file| file.blocks().saturating_mul(512));
        let capacity = Word::new(disk::capacity_bytes());
        let extent = BlkExtent {
            allocation_bytes: allocated.into(),
            capacity_bytes: capacity,
            physical_bytes: capacity,
            ..BlkExtent::NOT_PRODUCED
        };
        self.sink.write(&extent, now);
    }
}

/// A micro-VM that runs.
struct RunningVm<D, B> {
    dom: D,
    threads: Threads,
    interval: Duration,
    name: String,
    vm_stats: Option<StatsFd>,
    vm_arch: ArchStats,
    disk: Option<Disk<B>>,
    /// This process, which the VM's threads are of.
    process: Option<Process>,
    times: ThreadTimes,
    cgroup: Cgroup,
    over: bool,
}

impl<D: DomSink, B: BlkSink> RunningVm<D, B> {
    /// Brings up to date what the VM's threads do not.
    fn sample(&mut self) {
        write_memory(&mut self.dom);
        let dom = &mut self.dom;
        self.vm_arch.write(self.vm_stats.as_ref(), now(Clock::Monotonic), |words, now| {
            dom.write_arch(0, words, now);
        });
        if let Some(disk) = &mut self.disk {
            disk.write();
        }
        let Some(process) = &self.process else { return };
        if let Some(threads) = self.times.of_threads(process, &self.threads.roles()) {
            dom.write(&ThreadGroup::from(threads), now(Clock::Monotonic));
        }
        self.cgroup.write(process, dom, Clock::Monotonic);
    }
}

/// KVM's own statistics, as far as they were published.
#[derive(Debug, Default)]
struct ArchStats {
    buffer: Buffer,
    written: Option<Ns>,
}

impl ArchStats {
    /// Reads them and gives them to `write`, unless that was done less than [`REFRESH_NS`] ago;
    /// none on kernels that have none. A read that fails leaves what was published as it is, with
    /// its age.
    fn write(&mut self, stats: Option<&StatsFd>, now: Ns, write: impl FnOnce(&[Word], Ns)) {
        if self.written.is_some_and(|written| now.since(written) < REFRESH_NS) {
            return;
        }
        let words = match stats {
            Some(stats) => stats.read_words(&mut self.buffer),
            None => Ok([].as_slice()),
        };
        if let Ok(words) = words {
            write(words, now);
            self.written = Some(now);
        }
    }

    /// Has the next write come, however long ago the last one was.
    fn expire(&mut self) {
        self.written = None;
    }
}

impl<D: DomSink, B: BlkSink> Running for RunningVm<D, B> {
    fn interval(&self) -> Duration {
        self.interval
    }

    fn tick(&mut self) -> Result<Progress, SourceError> {
        if self.over {
            return Ok(Progress::Ended);
        }
        if let Some(failure) = self.threads.take_failure() {
            self.over = true;
            self.threads.stop();
            let action = format!("run vCPU {} of {}", failure.vcpu, self.name);
            return Err(SourceError::Os { action, source: failure.source });
        }
        self.sample();
        Ok(Progress::Continue)
    }

    fn stop(mut self: Box<Self>) {
        self.threads.stop();
    }
}

/// The memory does not change; what it costs the host is not known here.
fn write_memory<D: DomSink>(dom: &mut D) {
    let bytes = Word::from(u64::try_from(MEMORY_BYTES).ok());
    let memory = Memory { current_bytes: bytes, maximum_bytes: bytes, ..Memory::NOT_PRODUCED };
    dom.write(&memory, now(Clock::Monotonic));
}

/// How long a vCPU halts: 10 ms to 30 ms, different for neighbors. A busy one does not.
fn halt_time(index: u32, nr_busy: u32) -> Duration {
    if index < nr_busy {
        return Duration::ZERO;
    }
    Duration::from_millis(u64::from(index).wrapping_mul(7).wrapping_rem(21).wrapping_add(10))
}

fn open_kvm() -> Result<Kvm, SourceError> {
    let kvm = Kvm::new().map_err(|error| match error.errno() {
        libc::EACCES | libc::EPERM => SourceError::NotPermitted {
            action: "open /dev/kvm".to_owned(),
            hint: "run as root or as a member of the group that owns it, usually kvm",
        },
        libc::ENOENT | libc::ENODEV | libc::ENXIO => SourceError::Unavailable {
            what: "/dev/kvm".to_owned(),
            hint: "use a host with hardware virtualization and load kvm_intel or kvm_amd",
        },
        _ => failed("open /dev/kvm", os(error)),
    })?;
    let version = kvm.get_api_version();
    if u32::try_from(version) != Ok(KVM_API_VERSION) {
        return Err(SourceError::Unavailable {
            what: format!("version {KVM_API_VERSION} of the KVM API (found {version})"),
            hint: "/dev/kvm must be the one of a Linux kernel since 2.6.22",
        });
    }
    Ok(kvm)
}

fn check_nr_vcpus(nr_vcpus: u32, most: usize) -> Result<(), SourceError> {
    if nr_vcpus > 0 && usize::try_from(nr_vcpus).is_ok_and(|nr| nr <= most) {
        return Ok(());
    }
    Err(SourceError::BadParameter {
        parameter: "nr_vcpus",
        found: nr_vcpus.to_string(),
        expected: format!("1 to {most}, which is what KVM allows here"),
    })
}

fn create_vm(kvm: &Kvm, kernel_irqchip: bool) -> io::Result<Vm> {
    let fd = kvm.create_vm().map_err(os)?;
    // Only some processors need it; where it is refused, they are not these.
    let _ = fd.set_tss_address(TSS_ADDRESS);
    let mut memory = MmapMut::map_anon(MEMORY_BYTES)?;
    let code = usize::try_from(program::ENTRY).ok().and_then(|entry| memory.get_mut(entry..));
    for (to, from) in code.unwrap_or_default().iter_mut().zip(program::PROGRAM) {
        *to = *from;
    }
    if kernel_irqchip {
        kernel_irqchip::write_handler(&mut memory);
        fd.create_irq_chip().map_err(os)?;
    }
    Vm::new(fd, memory)
}

fn supported_cpuid(kvm: &Kvm) -> Result<CpuId, SourceError> {
    kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(|error| failed("ask /dev/kvm what its vCPUs support", os(error)))
}

/// A vCPU at the program's start; with `cpuid` its interrupt controller is in the kernel.
fn create_vcpu(vm: &Vm, id: u32, options: &KvmOptions, cpuid: Option<&CpuId>) -> io::Result<Vcpu> {
    let vcpu = vm.vcpu(id)?;
    let mut sregs = vcpu.fd().get_sregs().map_err(os)?;
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    vcpu.fd().set_sregs(&sregs).map_err(os)?;
    if let Some(cpuid) = cpuid {
        kernel_irqchip::prepare_vcpu(vcpu.fd(), cpuid, halt_time(id, options.nr_busy))?;
    }
    let (turns, each) = match options.disk {
        DiskLoad::NoDisk => (0, 0),
        DiskLoad::Turns(turns) => (turns, 1),
        DiskLoad::Endless => (1, 0),
    };
    let regs = kvm_regs {
        rip: program::ENTRY,
        rbx: program::ROUNDS,
        rsi: u64::from(id >= options.nr_busy),
        rbp: u64::from(turns),
        rdi: each,
        rflags: match cpuid {
            Some(_) => kernel_irqchip::RFLAGS,
            None => 2, // the bit that is always set
        },
        ..Default::default()
    };
    vcpu.fd().set_regs(&regs).map_err(os)?;
    Ok(vcpu)
}

fn failed(action: &str, source: io::Error) -> SourceError {
    SourceError::Os { action: action.to_owned(), source }
}

#[cfg(test)]
mod tests;
