//! Families of revision 5: status, limits and what they cost, queues, failures.

use domstat_layout::latest::{
    Balloon, BlkDiscards, BlkFailures, BlkLimits, BlkQueue, Limits, Lineage, Migration, NetLimits,
    Pressure, Threads,
};

use super::family;
use crate::family::{Computed, Family, Kind, Origin, Unit, labeled, limit, row, unless_zero};

pub(super) const STATUS: &[Family] = computed! {
    "domain_labels" Gauge None Labels
        "Always 1; labels that the operator gave the domain, for joins by domain and uuid.";
    "domain_status" StateSet None Status
        "What hypervisor or VMM says of the domain; domstat_domain_state is about its statistics.";
    "domain_status_reason" Info None StatusReason
        "Why the domain is in its status, and the disk whose error stopped it.";
    "domain_status_age_seconds" Gauge Seconds StatusSeconds "Time since the domain got its status.";
    "domain_unanswered_seconds" Gauge Seconds Unanswered
        "Time since hypervisor or VMM last answered; absent while it answers.";
    "domain_session" Info None Session
        "Differs whenever the domain's counters do not go on from earlier ones, and why.";
    "domain_migration" Info None MigrationState "State of the domain's last migration away from this host.";
    "domain_balloon_age_seconds" Gauge Seconds BalloonAge
        "Time since the domain's balloon driver last reported.";
};

pub(super) const DOMAIN: &[Family] = families! {
    "domain_arrivals" Counter None Dom[row(Lineage::arrivals)]
        "Times that the domain arrived by migration.";
    "domain_thread_cpu_seconds" Counter Seconds Dom[
        labeled("role", "vcpu", Threads::vcpu_ns),
        labeled("role", "iothread", Threads::iothread_ns),
        labeled("role", "vhost", Threads::vhost_ns),
        labeled("role", "worker", Threads::worker_ns),
        labeled("role", "other", Threads::other_ns)
    ] "CPU time of the domain's threads by role, with that of ended threads.";
    "domain_threads" Gauge None Dom[
        labeled("role", "vcpu", Threads::vcpu_threads),
        labeled("role", "iothread", Threads::iothread_threads),
        labeled("role", "vhost", Threads::vhost_threads),
        labeled("role", "worker", Threads::worker_threads),
        labeled("role", "other", Threads::other_threads)
    ] "Threads of the domain by role.";
    "domain_cpu_quota_seconds" Gauge Seconds Dom[unless_zero(Limits::cpu_quota_ns)]
        "CPU time that the domain may use in a period; absent without a limit.";
    "domain_cpu_period_seconds" Gauge Seconds Dom[row(Limits::cpu_period_ns)]
        "Length of a period of the limit of CPU time.";
    "domain_cpu_weight" Gauge None Dom[row(Limits::cpu_weight)]
        "Share of the CPU under contention; 100 is usual.";
    "domain_cpu_periods" Counter None Dom[row(Limits::cpu_periods)]
        "Periods in which the domain ran.";
    "domain_cpu_throttled_periods" Counter None Dom[row(Limits::cpu_throttled_periods)]
        "Periods in which the domain used up its limit of CPU time.";
    "domain_cpu_throttled_seconds" Counter Seconds Dom[row(Limits::cpu_throttled_ns)]
        "Time that threads of the domain were kept from running by its limit of CPU time.";
    "domain_memory_limit_bytes" Gauge Bytes Dom[
        limit("limit", "max", Limits::memory_max_bytes),
        limit("limit", "high", Limits::memory_high_bytes)
    ] "Host memory that the domain may not pass (max), or is slowed down above (high); absent without a limit.";
    "domain_memory_high_events" Counter None Dom[row(Limits::memory_high_events)]
        "Times that the domain was slowed down for using more memory than the limit high.";
    "domain_oom_kills" Counter None Dom[row(Limits::oom_kills)]
        "Processes of the domain that the host killed for lack of memory.";
    "domain_pressure_some_seconds" Counter Seconds Dom[
        labeled("resource", "cpu", Pressure::cpu_some_ns),
        labeled("resource", "memory", Pressure::memory_some_ns),
        labeled("resource", "io", Pressure::io_some_ns)
    ] "Time that some thread of the domain waited for the resource.";
    "domain_pressure_full_seconds" Counter Seconds Dom[
        labeled("resource", "cpu", Pressure::cpu_full_ns),
        labeled("resource", "memory", Pressure::memory_full_ns),
        labeled("resource", "io", Pressure::io_full_ns)
    ] "Time that all threads of the domain waited for the resource.";
    "domain_balloon_disk_caches_bytes" Gauge Bytes Dom[row(Balloon::disk_caches_bytes)]
        "Memory of the domain that caches files.";
    "domain_balloon_huge_pages" Counter None Dom[
        labeled("result", "allocated", Balloon::hugetlb_pgalloc),
        labeled("result", "failed", Balloon::hugetlb_pgfail)
    ] "Huge pages that the domain's kernel allocated, or could not allocate.";
    "domain_balloon_oom_kills" Counter None Dom[row(Balloon::oom_kills)]
        "Processes that the domain's kernel killed for lack of memory.";
    "domain_balloon_alloc_stalls" Counter None Dom[row(Balloon::alloc_stalls)]
        "Allocations in the domain that waited for memory to be reclaimed.";
    "domain_balloon_scanned_pages" Counter None Dom[
        labeled("by", "async", Balloon::async_scan),
        labeled("by", "direct", Balloon::direct_scan)
    ] "Pages that the domain's kernel scanned, in the background or for an allocation.";
    "domain_balloon_reclaimed_pages" Counter None Dom[
        labeled("by", "async", Balloon::async_reclaim),
        labeled("by", "direct", Balloon::direct_reclaim)
    ] "Pages that the domain's kernel reclaimed, in the background or for an allocation.";
    "domain_migrations" Counter None Dom[row(Migration::migrations)]
        "Migrations of the domain away from this host that were begun.";
    "domain_migration_duration_seconds" Gauge Seconds Dom[row(Migration::total_ns)]
        "Duration of the migration so far, or of the last one.";
    "domain_migration_setup_seconds" Gauge Seconds Dom[row(Migration::setup_ns)]
        "Duration of the migration's preparation.";
    "domain_migration_downtime_seconds" Gauge Seconds Dom[row(Migration::downtime_ns)]
        "Time that the domain stood still for the migration, or is expected to.";
    "domain_migration_transferred_bytes" Gauge Bytes Dom[row(Migration::transferred_bytes)]
        "Memory that the migration sent.";
    "domain_migration_remaining_bytes" Gauge Bytes Dom[row(Migration::remaining_bytes)]
        "Memory that the migration still has to send.";
    "domain_migration_dirty_rate_bytes" Gauge Bytes Dom[row(Migration::dirty_bytes)]
        "Memory that the domain changes in a second.";
    "domain_migration_iterations" Gauge None Dom[row(Migration::iterations)]
        "Passes of the migration over the memory.";
};

pub(super) const QUEUE: &[Family] = computed! {
    "block_busy_seconds" Counter Seconds BlkBusy "Time with a request in flight, up to now.";
    "block_queued_seconds" Counter Seconds BlkQueued
        "Requests in flight times time, up to now: its rate is the mean length of the queue.";
};

pub(super) const BLOCK: &[Family] = families! {
    "block_submitted" Counter None Blk[row(BlkQueue::submitted)] "Requests that were accepted.";
    "block_completed" Counter None Blk[row(BlkQueue::completed)]
        "Requests that were completed, successfully or not.";
    "block_discards" Counter None Blk[row(BlkDiscards::dis_req)] "Completed discards.";
    "block_discarded_bytes" Counter Bytes Blk[row(BlkDiscards::dis_bytes)] "Bytes discarded.";
    "block_discard_seconds" Counter Seconds Blk[row(BlkDiscards::dis_total_ns)]
        "Total time of completed discards.";
    "block_discards_merged" Counter None Blk[row(BlkDiscards::dis_merged)]
        "Discards that were merged into others.";
    "block_failed_requests" Counter None Blk[
        labeled("operation", "read", BlkFailures::rd_failed),
        labeled("operation", "write", BlkFailures::wr_failed),
        labeled("operation", "flush", BlkFailures::flush_failed),
        labeled("operation", "discard", BlkFailures::dis_failed)
    ] "Requests that the storage did not complete.";
    "block_invalid_requests" Counter None Blk[
        labeled("operation", "read", BlkFailures::rd_invalid),
        labeled("operation", "write", BlkFailures::wr_invalid),
        labeled("operation", "flush", BlkFailures::flush_invalid),
        labeled("operation", "discard", BlkFailures::dis_invalid)
    ] "Requests that were refused before they reached the storage.";
    "block_limit_requests" Gauge None Blk[
        limit("direction", "both", BlkLimits::limit_req),
        limit("direction", "read", BlkLimits::rd_limit_req),
        limit("direction", "write", BlkLimits::wr_limit_req)
    ] "Requests that the device may take in a second; absent without a limit.";
    "block_limit_bytes" Gauge Bytes Blk[
        limit("direction", "both", BlkLimits::limit_bytes),
        limit("direction", "read", BlkLimits::rd_limit_bytes),
        limit("direction", "write", BlkLimits::wr_limit_bytes)
    ] "Bytes that the device may move in a second; absent without a limit.";
    "block_throttled_requests" Counter None Blk[row(BlkLimits::throttled_req)]
        "Requests that waited for a limit.";
    "block_throttled_seconds" Counter Seconds Blk[row(BlkLimits::throttled_ns)]
        "Total time that requests waited for a limit.";
};

pub(super) const NETWORK: &[Family] = families! {
    "network_limit_bytes" Gauge Bytes Net[
        limit("direction", "receive", NetLimits::rx_limit_bytes),
        limit("direction", "transmit", NetLimits::tx_limit_bytes)
    ] "Bytes that the interface may move in a second; absent without a limit.";
    "network_limit_packets" Gauge None Net[
        limit("direction", "receive", NetLimits::rx_limit_packets),
        limit("direction", "transmit", NetLimits::tx_limit_packets)
    ] "Packets that the interface may move in a second; absent without a limit.";
    "network_throttled_packets" Counter None Net[
        labeled("direction", "receive", NetLimits::rx_throttled_packets),
        labeled("direction", "transmit", NetLimits::tx_throttled_packets)
    ] "Packets that waited for a limit.";
    "network_throttled_seconds" Counter Seconds Net[
        labeled("direction", "receive", NetLimits::rx_throttled_ns),
        labeled("direction", "transmit", NetLimits::tx_throttled_ns)
    ] "Total time that packets waited for a limit.";
};
