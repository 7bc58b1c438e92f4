//! Table of the metric families, in export order.

use domstat_layout::latest::{
    BlkExtent, BlkIo, BlkIoTimes, BlkJob, Cpu, Exits, Memory, NetIo, Sched,
};

use crate::family::{Computed, Family, Kind, Origin, Unit, labeled, row, unless_zero};

const fn family(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    origin: Origin,
    help: &'static str,
) -> Family {
    Family { name, kind, unit, help, origin }
}

macro_rules! families {
    ($($name:literal $kind:ident $unit:ident $origin:ident[$($row:expr),*] $help:literal;)*) => {
        &[$(family(
            concat!("domstat_", $name), Kind::$kind, Unit::$unit, Origin::$origin(&[$($row),*]), $help
        )),*]
    };
}

macro_rules! computed {
    ($($name:literal $kind:ident $unit:ident $computed:ident $help:literal;)*) => {
        computed!("domstat_": $($name $kind $unit $computed $help;)*)
    };
    ($prefix:literal: $($name:literal $kind:ident $unit:ident $computed:ident $help:literal;)*) => {
        &[$(family(
            concat!($prefix, $name),
            Kind::$kind,
            Unit::$unit,
            Origin::Computed(Computed::$computed),
            $help,
        )),*]
    };
}

mod causes;
mod histograms;

/// All families, by subject.
pub const FAMILIES: [&[Family]; 14] = [
    ITSELF,
    PROCESS,
    DOMAIN,
    DOMAIN_FIELDS,
    VCPU,
    VCPU_FIELDS,
    BLOCK,
    NETWORK,
    causes::STATUS,
    causes::DOMAIN,
    causes::QUEUE,
    causes::BLOCK,
    causes::NETWORK,
    histograms::HISTOGRAMS,
];

const ITSELF: &[Family] = computed! {
    "build" Info None Build "The program that exports.";
    "up" Gauge None Up
        "1 if the domain's producer lives and publishes it, else 0; domstat_domain_state says more.";
    "stats_age_seconds" Gauge Seconds Age
        "Time since the newest write of the group in any record of the domain.";
    "read_retries" Counter None Retries
        "Reads that were retried because a writer was halfway through an update.";
    "read_failures" Counter None Failures "Reads and attachments that failed.";
    "saturated_fields" Gauge None Saturated
        "Fields at the largest number that the layout holds; they have no series.";
    "scrapes_refused" Counter None Refused
        "Scrapes refused because too many were in progress.";
    "scrape_duration_seconds" Gauge Seconds PassSeconds
        "Time that this scrape took to read all domains.";
};

/// The names that exporters use by convention.
const PROCESS: &[Family] = computed! { "process_":
    "cpu_seconds" Counter Seconds ProcessCpu "CPU time of the exporter's process.";
    "resident_memory_bytes" Gauge Bytes ProcessResident
        "Resident memory of the exporter's process.";
    "virtual_memory_bytes" Gauge Bytes ProcessVirtual "Virtual memory of the exporter's process.";
    "open_fds" Gauge None ProcessOpenFds "Open descriptors of the exporter's process.";
    "max_fds" Gauge None ProcessMaxFds "Limit of open descriptors of the exporter's process.";
    "start_time_seconds" Gauge Seconds ProcessStart
        "Start of the exporter's process, as seconds since 1970.";
};

const DOMAIN: &[Family] = computed! {
    "domain" Info None Info "Numbers of the domain and of its region.";
    "domain_state" StateSet None State "How the domain stands, in the words of domstat ls.";
    "domain_vcpus" Gauge None Vcpus "Current vCPUs of the domain.";
    "domain_vcpus_maximum" Gauge None VcpusMaximum "Maximum vCPUs of the domain.";
};

const DOMAIN_FIELDS: &[Family] = families! {
    "domain_cpu_seconds" Counter Seconds Dom[
        labeled("mode", "user", Cpu::user_ns),
        labeled("mode", "system", Cpu::system_ns)
    ] "CPU time of all threads of the domain by mode.";
    "domain_cpu_time_seconds" Counter Seconds Dom[row(Cpu::time_ns)]
        "CPU time of all threads of the domain.";
    "domain_vcpus_cpu_seconds" Counter Seconds Dom[row(Cpu::vcpus_ns)]
        "CPU time spent running vCPUs.";
    "domain_memory_current_bytes" Gauge Bytes Dom[row(Memory::current_bytes)]
        "Current memory of the domain.";
    "domain_memory_maximum_bytes" Gauge Bytes Dom[row(Memory::maximum_bytes)]
        "Maximum memory of the domain.";
    "domain_memory_rss_bytes" Gauge Bytes Dom[row(Memory::rss_bytes)]
        "Resident host memory of the process that runs the domain.";
    "domain_memory_unused_bytes" Gauge Bytes Dom[row(Memory::unused_bytes)]
        "Memory that the domain leaves unused.";
    "domain_memory_available_bytes" Gauge Bytes Dom[row(Memory::available_bytes)]
        "Memory that the domain's kernel could use.";
    "domain_memory_usable_bytes" Gauge Bytes Dom[row(Memory::usable_bytes)]
        "Memory of the domain that can be reclaimed without swapping.";
    "domain_memory_swap_in_bytes" Counter Bytes Dom[row(Memory::swap_in_bytes)]
        "Memory that the domain swapped in.";
    "domain_memory_swap_out_bytes" Counter Bytes Dom[row(Memory::swap_out_bytes)]
        "Memory that the domain swapped out.";
    "domain_memory_page_faults" Counter None Dom[
        labeled("type", "major", Memory::major_faults),
        labeled("type", "minor", Memory::minor_faults)
    ] "Page faults with (major) and without (minor) disk access.";
};

const VCPU: &[Family] = computed! {
    "vcpu_state_seconds" Counter Seconds StateSeconds
        "Time that the vCPU spent in the state, up to now.";
    "vcpu_steal_seconds" Counter Seconds StealSeconds
        "Time that the vCPU was runnable but not running.";
    "vcpu_online" Gauge None Online "1 if the vCPU is running, runnable or blocked, 0 if it is offline.";
};

const VCPU_FIELDS: &[Family] = families! {
    "vcpu_timeslices" Counter None Vcpu[row(Sched::timeslices)]
        "Times that the vCPU got a CPU.";
    "vcpu_exits" Counter None Vcpu[
        labeled("reason", "io", Exits::io_exits),
        labeled("reason", "mmio", Exits::mmio_exits),
        labeled("reason", "halt", Exits::halt_exits),
        labeled("reason", "irq", Exits::irq_exits),
        labeled("reason", "signal", Exits::signal_exits),
        labeled("reason", "hypercall", Exits::hypercalls)
    ] "Exits of the vCPU from the domain's code for the reason.";
    "vcpu_all_exits" Counter None Vcpu[row(Exits::exits)]
        "Exits of the vCPU from the domain's code for any reason, including those without a series of their own.";
    "vcpu_emulated_instructions" Counter None Vcpu[row(Exits::insn_emulation)]
        "Emulated instructions.";
};

const BLOCK: &[Family] = families! {
    "block_read_bytes" Counter Bytes Blk[row(BlkIo::rd_bytes)] "Bytes read.";
    "block_written_bytes" Counter Bytes Blk[row(BlkIo::wr_bytes)] "Bytes written.";
    "block_reads" Counter None Blk[row(BlkIo::rd_req)] "Completed reads.";
    "block_writes" Counter None Blk[row(BlkIo::wr_req)] "Completed writes.";
    "block_flushes" Counter None Blk[row(BlkIoTimes::flush_req)] "Completed flushes.";
    "block_errors" Counter None Blk[row(BlkIo::errs)] "Failed requests.";
    "block_read_seconds" Counter Seconds Blk[row(BlkIoTimes::rd_total_ns)]
        "Total time of completed reads.";
    "block_write_seconds" Counter Seconds Blk[row(BlkIoTimes::wr_total_ns)]
        "Total time of completed writes.";
    "block_flush_seconds" Counter Seconds Blk[row(BlkIoTimes::flush_total_ns)]
        "Total time of completed flushes.";
    "block_in_flight" Gauge None Blk[row(BlkIo::in_flight)] "Requests in flight.";
    "block_capacity_bytes" Gauge Bytes Blk[row(BlkExtent::capacity_bytes)]
        "Size of the device as the domain sees it.";
    "block_allocation_bytes" Gauge Bytes Blk[row(BlkExtent::allocation_bytes)]
        "Highest written byte of the storage.";
    "block_physical_bytes" Gauge Bytes Blk[row(BlkExtent::physical_bytes)]
        "Size of the storage as the host sees it.";
    "block_threshold_bytes" Gauge Bytes Blk[unless_zero(BlkExtent::threshold_bytes)]
        "Armed write threshold: a write past this byte raises an event; absent while none is armed.";
    "block_threshold_events" Counter None Blk[row(BlkExtent::threshold_events)]
        "Crossed write thresholds.";
    "block_job_current_bytes" Gauge Bytes Blk[row(BlkJob::cur_bytes)]
        "Progress of the device's job.";
    "block_job_end_bytes" Gauge Bytes Blk[row(BlkJob::end_bytes)] "Position at which the device's job ends.";
    "block_jobs_ended" Counter None Blk[row(BlkJob::ended)]
        "Ended jobs of the device, successful or not.";
};

const NETWORK: &[Family] = families! {
    "network_receive_bytes" Counter Bytes Net[row(NetIo::rx_bytes)] "Bytes received by the domain.";
    "network_receive_packets" Counter None Net[row(NetIo::rx_packets)]
        "Packets received by the domain.";
    "network_receive_errors" Counter None Net[row(NetIo::rx_errs)] "Errors in receiving.";
    "network_receive_drops" Counter None Net[row(NetIo::rx_drop)]
        "Packets dropped in receiving.";
    "network_transmit_bytes" Counter Bytes Net[row(NetIo::tx_bytes)] "Bytes sent by the domain.";
    "network_transmit_packets" Counter None Net[row(NetIo::tx_packets)]
        "Packets sent by the domain.";
    "network_transmit_errors" Counter None Net[row(NetIo::tx_errs)] "Errors in sending.";
    "network_transmit_drops" Counter None Net[row(NetIo::tx_drop)] "Packets dropped in sending.";
};
