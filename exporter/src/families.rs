//! The families, in the order in which they are exported.

use domstat_layout::latest::{
    BlkExtent, BlkIo, BlkIoTimes, BlkJob, Cpu, Exits, Memory, NetIo, Sched,
};

use crate::family::{Computed, Family, From, Kind, Unit, labeled, row, unless_zero};

const fn family(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    from: From,
    help: &'static str,
) -> Family {
    Family { name, kind, unit, help, from }
}

macro_rules! families {
    ($($name:literal $kind:ident $unit:ident $from:ident[$($row:expr),*] $help:literal;)*) => {
        &[$(family(
            concat!("domstat_", $name), Kind::$kind, Unit::$unit, From::$from(&[$($row),*]), $help
        )),*]
    };
}

macro_rules! computed {
    ($($name:literal $kind:ident $unit:ident $computed:ident $help:literal;)*) => {
        &[$(family(
            concat!("domstat_", $name),
            Kind::$kind,
            Unit::$unit,
            From::Computed(Computed::$computed),
            $help,
        )),*]
    };
}

/// Every family, in parts.
pub const FAMILIES: [&[Family]; 7] =
    [ITSELF, DOMAIN, DOMAIN_FIELDS, VCPU, VCPU_FIELDS, BLOCK, NETWORK];

const ITSELF: &[Family] = computed! {
    "build" Info None Build "The program that exports.";
    "up" Gauge None Up
        "1 if the domain's region is attached, live and held by its producer, else 0.";
    "stats_age_seconds" Gauge Seconds Age
        "Time since the newest write of the group in any record of the domain.";
    "read_retries" Counter None Retries
        "Reads that were tried again because a writer was in mid-update.";
    "read_failures" Counter None Failures "Reads and attachments that failed.";
    "saturated_fields" Gauge None Saturated
        "Fields that stopped at the largest number that the layout holds; they have no series.";
    "scrapes_refused" Counter None Refused
        "Scrapes that were refused because too many were under way.";
};

const DOMAIN: &[Family] = computed! {
    "domain" Info None Info "Numbers of the domain and of its region.";
    "domain_state" StateSet None State "State of the domain's region.";
    "domain_vcpus" Gauge None Vcpus "vCPUs that the domain has now.";
    "domain_vcpus_maximum" Gauge None VcpusMaximum "vCPUs that the domain may have.";
};

const DOMAIN_FIELDS: &[Family] = families! {
    "domain_cpu_seconds" Counter Seconds Dom[
        labeled("mode", "user", Cpu::user_ns),
        labeled("mode", "system", Cpu::system_ns)
    ] "CPU time of all threads of the domain by mode.";
    "domain_cpu_time_seconds" Counter Seconds Dom[row(Cpu::time_ns)]
        "CPU time of all threads of the domain.";
    "domain_vcpus_cpu_seconds" Counter Seconds Dom[row(Cpu::vcpus_ns)]
        "CPU time that was spent running vCPUs.";
    "domain_memory_current_bytes" Gauge Bytes Dom[row(Memory::current_bytes)]
        "Memory that the domain has now.";
    "domain_memory_maximum_bytes" Gauge Bytes Dom[row(Memory::maximum_bytes)]
        "Memory that the domain may have.";
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
    ] "Page faults that needed a disk (major) and that did not (minor).";
};

const VCPU: &[Family] = computed! {
    "vcpu_state_seconds" Counter Seconds StateSeconds
        "Time that the vCPU spent in the state, up to now.";
    "vcpu_steal_seconds" Counter Seconds StealSeconds
        "Time that the vCPU wanted a CPU and had none.";
    "vcpu_online" Gauge None Online "1 if the vCPU runs, wants to or waits; 0 if it is offline.";
};

const VCPU_FIELDS: &[Family] = families! {
    "vcpu_timeslices" Counter None Vcpu[row(Sched::timeslices)]
        "Times that the vCPU was given a CPU.";
    "vcpu_exits" Counter None Vcpu[
        labeled("reason", "io", Exits::io_exits),
        labeled("reason", "mmio", Exits::mmio_exits),
        labeled("reason", "halt", Exits::halt_exits),
        labeled("reason", "irq", Exits::irq_exits),
        labeled("reason", "signal", Exits::signal_exits),
        labeled("reason", "hypercall", Exits::hypercalls)
    ] "Exits of the vCPU from the domain's code for the reason.";
    "vcpu_all_exits" Counter None Vcpu[row(Exits::exits)]
        "Exits of the vCPU from the domain's code, also for reasons that are not counted apart.";
    "vcpu_emulated_instructions" Counter None Vcpu[row(Exits::insn_emulation)]
        "Instructions that were emulated.";
};

const BLOCK: &[Family] = families! {
    "block_read_bytes" Counter Bytes Blk[row(BlkIo::rd_bytes)] "Bytes that were read.";
    "block_written_bytes" Counter Bytes Blk[row(BlkIo::wr_bytes)] "Bytes that were written.";
    "block_reads" Counter None Blk[row(BlkIo::rd_req)] "Reads that were completed.";
    "block_writes" Counter None Blk[row(BlkIo::wr_req)] "Writes that were completed.";
    "block_flushes" Counter None Blk[row(BlkIoTimes::flush_req)] "Flushes that were completed.";
    "block_errors" Counter None Blk[row(BlkIo::errs)] "Requests that failed.";
    "block_read_seconds" Counter Seconds Blk[row(BlkIoTimes::rd_total_ns)]
        "Time that completed reads took, in sum.";
    "block_write_seconds" Counter Seconds Blk[row(BlkIoTimes::wr_total_ns)]
        "Time that completed writes took, in sum.";
    "block_flush_seconds" Counter Seconds Blk[row(BlkIoTimes::flush_total_ns)]
        "Time that completed flushes took, in sum.";
    "block_in_flight" Gauge None Blk[row(BlkIo::in_flight)] "Requests that are being served.";
    "block_capacity_bytes" Gauge Bytes Blk[row(BlkExtent::capacity_bytes)]
        "Size of the device as the domain sees it.";
    "block_allocation_bytes" Gauge Bytes Blk[row(BlkExtent::allocation_bytes)]
        "Highest byte of the storage that was written.";
    "block_physical_bytes" Gauge Bytes Blk[row(BlkExtent::physical_bytes)]
        "Size of the storage as the host sees it.";
    "block_threshold_bytes" Gauge Bytes Blk[unless_zero(BlkExtent::threshold_bytes)]
        "A write past this byte is an event; absent while none is armed.";
    "block_threshold_events" Counter None Blk[row(BlkExtent::threshold_events)]
        "How often a threshold was crossed.";
    "block_job_current_bytes" Gauge Bytes Blk[row(BlkJob::cur_bytes)]
        "How far the device's job is.";
    "block_job_end_bytes" Gauge Bytes Blk[row(BlkJob::end_bytes)] "Where the device's job ends.";
    "block_jobs_ended" Counter None Blk[row(BlkJob::ended)]
        "Jobs of the device that have ended, in whatever way.";
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
