/* Tables of the kinds of record, of groups and of fields, for write.h, which includes this.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 * Generated from the descriptor table by ci/generated.sh. */
#ifndef DOMSTAT_GROUPS_H
#define DOMSTAT_GROUPS_H

#ifndef DOMSTAT_KIND_DOM
#define DOMSTAT_KIND_DOM 1u
#define DOMSTAT_KIND_VCPU 2u
#define DOMSTAT_KIND_BLK 3u
#define DOMSTAT_KIND_NET 4u
#define DOMSTAT_KIND_ARCH_DOM 5u
#define DOMSTAT_KIND_ARCH_VCPU 6u
#define DOMSTAT_KIND_BLK_QUEUE 7u
#define DOMSTAT_KIND_NET_QUEUE 8u
#define DOMSTAT_KIND_ARCH_BLK 9u
#define DOMSTAT_KIND_ARCH_NET 10u
#define DOMSTAT_KIND_VCPU_HIST 11u
#define DOMSTAT_KIND_BLK_HIST 12u
#define DOMSTAT_KIND_LABELS 13u
#endif
#define DOMSTAT_NR_KINDS 13u

/* Length of a record of each kind; 0 if the revision does not have it, and of arch slots. */
#if DOMSTAT_REVISION == 1
#define DOMSTAT_RECORD_SIZES { 0, 400, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#elif DOMSTAT_REVISION == 2
#define DOMSTAT_RECORD_SIZES { 0, 448, 224, 240, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#elif DOMSTAT_REVISION == 3
#define DOMSTAT_RECORD_SIZES { 0, 448, 224, 464, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#elif DOMSTAT_REVISION == 4
#define DOMSTAT_RECORD_SIZES { 0, 448, 336, 528, 256, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#elif DOMSTAT_REVISION == 5
#define DOMSTAT_RECORD_SIZES { 0, 992, 336, 784, 336, 0, 0, 2000, 160, 0, 0, 384, 1664, 1072 }
#endif

/* Kinds by number: name, magic, the number of the kind that records belong to (0: none). */
static const struct domstat_kind domstat_kinds[] = {
    { "", 0, 0 },
    { "dom", 0x014d4f44u, 0 },
    { "vcpu", 0x01504356u, 0 },
    { "blk", 0x014b4c42u, 0 },
    { "net", 0x0154454eu, 0 },
    { "arch_dom", 0x01435241u, 1 },
    { "arch_vcpu", 0x01435241u, 2 },
    { "blk_queue", 0x01514c42u, 0 },
    { "net_queue", 0x0151544eu, 0 },
    { "arch_blk", 0x01435241u, 3 },
    { "arch_net", 0x01435241u, 4 },
    { "vcpu_hist", 0x01484356u, 2 },
    { "blk_hist", 0x01484c42u, 3 },
    { "labels", 0x0142414cu, 0 },
};

/* Fields of each group: name, start in the group, length, kind, unit, exponent, number of
 * values or buckets, names of the values. A second copy has those of the first. */
static const struct domstat_field domstat_fields_dom_identity[] = {
    { "domid", 16, 8, 7, 0, 0, 0, "" },
    { "uuid", 24, 16, 7, 0, 0, 0, "" },
    { "name", 40, 128, 8, 0, 0, 0, "" },
    { "created_ns", 168, 8, 7, 2, -9, 0, "" },
};
static const struct domstat_field domstat_fields_dom_memory[] = {
    { "current_bytes", 16, 8, 2, 1, 0, 0, "" },
    { "maximum_bytes", 24, 8, 2, 1, 0, 0, "" },
    { "rss_bytes", 32, 8, 2, 1, 0, 0, "" },
    { "unused_bytes", 40, 8, 2, 1, 0, 0, "" },
    { "available_bytes", 48, 8, 2, 1, 0, 0, "" },
    { "usable_bytes", 56, 8, 2, 1, 0, 0, "" },
    { "swap_in_bytes", 64, 8, 1, 1, 0, 0, "" },
    { "swap_out_bytes", 72, 8, 1, 1, 0, 0, "" },
    { "major_faults", 80, 8, 1, 5, 0, 0, "" },
    { "minor_faults", 88, 8, 1, 5, 0, 0, "" },
};
#if DOMSTAT_REVISION >= 2
static const struct domstat_field domstat_fields_dom_cpu[] = {
    { "time_ns", 16, 8, 1, 2, -9, 0, "" },
    { "user_ns", 24, 8, 1, 2, -9, 0, "" },
    { "system_ns", 32, 8, 1, 2, -9, 0, "" },
    { "vcpus_ns", 40, 8, 1, 2, -9, 0, "" },
};
#endif
#if DOMSTAT_REVISION >= 5
static const struct domstat_field domstat_fields_dom_status[] = {
    { "state", 16, 8, 6, 0, 0, 9, "running\0" "paused\0" "suspended\0" "shutdown\0" "crashed\0" "dying\0" "migrating\0" "io_error\0" "unknown\0" },
    { "reason", 24, 8, 6, 0, 0, 13, "unknown\0" "started\0" "user\0" "guest\0" "migration\0" "snapshot\0" "saved\0" "io_error\0" "no_space\0" "watchdog\0" "panic\0" "host_error\0" "debug\0" },
    { "since_ns", 32, 8, 2, 2, -9, 0, "" },
    { "device", 40, 8, 2, 0, 0, 0, "" },
};
static const struct domstat_field domstat_fields_dom_threads[] = {
    { "vcpu_ns", 16, 8, 1, 2, -9, 0, "" },
    { "vcpu_threads", 24, 8, 2, 0, 0, 0, "" },
    { "iothread_ns", 32, 8, 1, 2, -9, 0, "" },
    { "iothread_threads", 40, 8, 2, 0, 0, 0, "" },
    { "vhost_ns", 48, 8, 1, 2, -9, 0, "" },
    { "vhost_threads", 56, 8, 2, 0, 0, 0, "" },
    { "worker_ns", 64, 8, 1, 2, -9, 0, "" },
    { "worker_threads", 72, 8, 2, 0, 0, 0, "" },
    { "other_ns", 80, 8, 1, 2, -9, 0, "" },
    { "other_threads", 88, 8, 2, 0, 0, 0, "" },
};
static const struct domstat_field domstat_fields_dom_limits[] = {
    { "cpu_quota_ns", 16, 8, 2, 2, -9, 0, "" },
    { "cpu_period_ns", 24, 8, 2, 2, -9, 0, "" },
    { "cpu_weight", 32, 8, 2, 0, 0, 0, "" },
    { "cpu_periods", 40, 8, 1, 5, 0, 0, "" },
    { "cpu_throttled_periods", 48, 8, 1, 5, 0, 0, "" },
    { "cpu_throttled_ns", 56, 8, 1, 2, -9, 0, "" },
    { "memory_max_bytes", 64, 8, 2, 1, 0, 0, "" },
    { "memory_high_bytes", 72, 8, 2, 1, 0, 0, "" },
    { "memory_high_events", 80, 8, 1, 5, 0, 0, "" },
    { "oom_kills", 88, 8, 1, 5, 0, 0, "" },
};
static const struct domstat_field domstat_fields_dom_pressure[] = {
    { "cpu_some_ns", 16, 8, 1, 2, -9, 0, "" },
    { "cpu_full_ns", 24, 8, 1, 2, -9, 0, "" },
    { "memory_some_ns", 32, 8, 1, 2, -9, 0, "" },
    { "memory_full_ns", 40, 8, 1, 2, -9, 0, "" },
    { "io_some_ns", 48, 8, 1, 2, -9, 0, "" },
    { "io_full_ns", 56, 8, 1, 2, -9, 0, "" },
};
static const struct domstat_field domstat_fields_dom_balloon[] = {
    { "disk_caches_bytes", 16, 8, 2, 1, 0, 0, "" },
    { "hugetlb_pgalloc", 24, 8, 1, 5, 0, 0, "" },
    { "hugetlb_pgfail", 32, 8, 1, 5, 0, 0, "" },
    { "oom_kills", 40, 8, 1, 5, 0, 0, "" },
    { "alloc_stalls", 48, 8, 1, 5, 0, 0, "" },
    { "async_scan", 56, 8, 1, 5, 0, 0, "" },
    { "direct_scan", 64, 8, 1, 5, 0, 0, "" },
    { "async_reclaim", 72, 8, 1, 5, 0, 0, "" },
    { "direct_reclaim", 80, 8, 1, 5, 0, 0, "" },
    { "last_update_ns", 88, 8, 2, 2, -9, 0, "" },
};
static const struct domstat_field domstat_fields_dom_migration[] = {
    { "state", 16, 8, 6, 0, 0, 10, "none\0" "setup\0" "active\0" "paused\0" "postcopy\0" "device\0" "ending\0" "completed\0" "failed\0" "canceled\0" },
    { "started_ns", 24, 8, 2, 2, -9, 0, "" },
    { "total_ns", 32, 8, 2, 2, -9, 0, "" },
    { "setup_ns", 40, 8, 2, 2, -9, 0, "" },
    { "downtime_ns", 48, 8, 2, 2, -9, 0, "" },
    { "transferred_bytes", 56, 8, 2, 1, 0, 0, "" },
    { "remaining_bytes", 64, 8, 2, 1, 0, 0, "" },
    { "dirty_bytes", 72, 8, 2, 1, 0, 0, "" },
    { "iterations", 80, 8, 2, 5, 0, 0, "" },
    { "migrations", 88, 8, 1, 5, 0, 0, "" },
};
static const struct domstat_field domstat_fields_dom_lineage[] = {
    { "session", 16, 8, 2, 0, 0, 0, "" },
    { "previous_incarnation", 24, 8, 7, 0, 0, 0, "" },
    { "arrivals", 32, 8, 1, 5, 0, 0, "" },
    { "cause", 40, 8, 6, 0, 0, 4, "created\0" "restored\0" "reverted\0" "migrated\0" },
};
#endif
static const struct domstat_field domstat_fields_vcpu_runstate[] = {
    { "state", 16, 8, 6, 0, 0, 4, "running\0" "runnable\0" "blocked\0" "offline\0" },
    { "state_entry_ns", 24, 8, 2, 2, -9, 0, "" },
    { "running_ns", 32, 8, 1, 2, -9, 0, "" },
    { "runnable_ns", 40, 8, 1, 2, -9, 0, "" },
    { "blocked_ns", 48, 8, 1, 2, -9, 0, "" },
    { "offline_ns", 56, 8, 1, 2, -9, 0, "" },
};
#if DOMSTAT_REVISION >= 2
static const struct domstat_field domstat_fields_vcpu_sched[] = {
    { "time_ns", 16, 8, 1, 2, -9, 0, "" },
    { "wait_ns", 24, 8, 1, 2, -9, 0, "" },
    { "delay_ns", 32, 8, 1, 2, -9, 0, "" },
    { "timeslices", 40, 8, 1, 5, 0, 0, "" },
};
static const struct domstat_field domstat_fields_vcpu_exits[] = {
    { "exits", 16, 8, 1, 5, 0, 0, "" },
    { "io_exits", 24, 8, 1, 5, 0, 0, "" },
    { "mmio_exits", 32, 8, 1, 5, 0, 0, "" },
    { "halt_exits", 40, 8, 1, 5, 0, 0, "" },
    { "irq_exits", 48, 8, 1, 5, 0, 0, "" },
    { "signal_exits", 56, 8, 1, 5, 0, 0, "" },
    { "hypercalls", 64, 8, 1, 5, 0, 0, "" },
    { "insn_emulation", 72, 8, 1, 5, 0, 0, "" },
};
static const struct domstat_field domstat_fields_blk_identity[] = {
    { "name", 16, 128, 8, 0, 0, 0, "" },
};
static const struct domstat_field domstat_fields_blk_io[] = {
    { "rd_req", 16, 8, 1, 5, 0, 0, "" },
    { "rd_bytes", 24, 8, 1, 1, 0, 0, "" },
    { "wr_req", 32, 8, 1, 5, 0, 0, "" },
    { "wr_bytes", 40, 8, 1, 1, 0, 0, "" },
    { "errs", 48, 8, 1, 5, 0, 0, "" },
    { "in_flight", 56, 8, 2, 0, 0, 0, "" },
};
#endif
#if DOMSTAT_REVISION >= 3
static const struct domstat_field domstat_fields_blk_io_times[] = {
    { "rd_total_ns", 16, 8, 1, 2, -9, 0, "" },
    { "wr_total_ns", 24, 8, 1, 2, -9, 0, "" },
    { "flush_req", 32, 8, 1, 5, 0, 0, "" },
    { "flush_total_ns", 40, 8, 1, 2, -9, 0, "" },
};
static const struct domstat_field domstat_fields_blk_extent[] = {
    { "allocation_bytes", 16, 8, 2, 1, 0, 0, "" },
    { "capacity_bytes", 24, 8, 2, 1, 0, 0, "" },
    { "physical_bytes", 32, 8, 2, 1, 0, 0, "" },
    { "threshold_bytes", 40, 8, 2, 1, 0, 0, "" },
    { "threshold_events", 48, 8, 1, 5, 0, 0, "" },
    { "threshold_excess_bytes", 56, 8, 2, 1, 0, 0, "" },
};
static const struct domstat_field domstat_fields_blk_vbd[] = {
    { "oo_req", 16, 8, 1, 5, 0, 0, "" },
    { "ds_req", 24, 8, 1, 5, 0, 0, "" },
    { "f_req", 32, 8, 1, 5, 0, 0, "" },
    { "devid", 40, 8, 7, 0, 0, 0, "" },
};
static const struct domstat_field domstat_fields_blk_job[] = {
    { "kind", 16, 8, 6, 0, 0, 7, "none\0" "pull\0" "copy\0" "commit\0" "active_commit\0" "backup\0" "other\0" },
    { "state", 24, 8, 6, 0, 0, 8, "none\0" "running\0" "paused\0" "ready\0" "ending\0" "completed\0" "failed\0" "canceled\0" },
    { "cur_bytes", 32, 8, 2, 1, 0, 0, "" },
    { "end_bytes", 40, 8, 2, 1, 0, 0, "" },
    { "limit_bytes", 48, 8, 2, 1, 0, 0, "" },
    { "ended", 56, 8, 1, 5, 0, 0, "" },
};
#endif
#if DOMSTAT_REVISION >= 5
static const struct domstat_field domstat_fields_blk_queue[] = {
    { "busy_ns", 16, 8, 1, 2, -9, 0, "" },
    { "queued_ns", 24, 8, 1, 2, -9, 0, "" },
    { "submitted", 32, 8, 1, 5, 0, 0, "" },
    { "completed", 40, 8, 1, 5, 0, 0, "" },
};
static const struct domstat_field domstat_fields_blk_discards[] = {
    { "dis_req", 16, 8, 1, 5, 0, 0, "" },
    { "dis_bytes", 24, 8, 1, 1, 0, 0, "" },
    { "dis_total_ns", 32, 8, 1, 2, -9, 0, "" },
    { "dis_merged", 40, 8, 1, 5, 0, 0, "" },
};
static const struct domstat_field domstat_fields_blk_failures[] = {
    { "rd_failed", 16, 8, 1, 5, 0, 0, "" },
    { "wr_failed", 24, 8, 1, 5, 0, 0, "" },
    { "flush_failed", 32, 8, 1, 5, 0, 0, "" },
    { "dis_failed", 40, 8, 1, 5, 0, 0, "" },
    { "rd_invalid", 48, 8, 1, 5, 0, 0, "" },
    { "wr_invalid", 56, 8, 1, 5, 0, 0, "" },
    { "flush_invalid", 64, 8, 1, 5, 0, 0, "" },
    { "dis_invalid", 72, 8, 1, 5, 0, 0, "" },
};
static const struct domstat_field domstat_fields_blk_limits[] = {
    { "limit_req", 16, 8, 2, 5, 0, 0, "" },
    { "rd_limit_req", 24, 8, 2, 5, 0, 0, "" },
    { "wr_limit_req", 32, 8, 2, 5, 0, 0, "" },
    { "limit_bytes", 40, 8, 2, 1, 0, 0, "" },
    { "rd_limit_bytes", 48, 8, 2, 1, 0, 0, "" },
    { "wr_limit_bytes", 56, 8, 2, 1, 0, 0, "" },
    { "throttled_req", 64, 8, 1, 5, 0, 0, "" },
    { "throttled_ns", 72, 8, 1, 2, -9, 0, "" },
};
#endif
#if DOMSTAT_REVISION >= 4
static const struct domstat_field domstat_fields_net_identity[] = {
    { "name", 16, 128, 8, 0, 0, 0, "" },
};
static const struct domstat_field domstat_fields_net_io[] = {
    { "rx_bytes", 16, 8, 1, 1, 0, 0, "" },
    { "rx_packets", 24, 8, 1, 5, 0, 0, "" },
    { "rx_errs", 32, 8, 1, 5, 0, 0, "" },
    { "rx_drop", 40, 8, 1, 5, 0, 0, "" },
    { "tx_bytes", 48, 8, 1, 1, 0, 0, "" },
    { "tx_packets", 56, 8, 1, 5, 0, 0, "" },
    { "tx_errs", 64, 8, 1, 5, 0, 0, "" },
    { "tx_drop", 72, 8, 1, 5, 0, 0, "" },
};
#endif
#if DOMSTAT_REVISION >= 5
static const struct domstat_field domstat_fields_net_limits[] = {
    { "rx_limit_bytes", 16, 8, 2, 1, 0, 0, "" },
    { "rx_limit_packets", 24, 8, 2, 5, 0, 0, "" },
    { "rx_throttled_packets", 32, 8, 1, 5, 0, 0, "" },
    { "rx_throttled_ns", 40, 8, 1, 2, -9, 0, "" },
    { "tx_limit_bytes", 48, 8, 2, 1, 0, 0, "" },
    { "tx_limit_packets", 56, 8, 2, 5, 0, 0, "" },
    { "tx_throttled_packets", 64, 8, 1, 5, 0, 0, "" },
    { "tx_throttled_ns", 72, 8, 1, 2, -9, 0, "" },
};
static const struct domstat_field domstat_fields_blk_queue_of[] = {
    { "device", 16, 8, 7, 0, 0, 0, "" },
    { "generation", 24, 8, 7, 0, 0, 0, "" },
    { "queue", 32, 8, 7, 0, 0, 0, "" },
    { "pid", 40, 8, 7, 0, 0, 0, "" },
};
static const struct domstat_field domstat_fields_blk_queue_io[] = {
    { "rd_req", 16, 8, 1, 5, 0, 0, "" },
    { "rd_bytes", 24, 8, 1, 1, 0, 0, "" },
    { "wr_req", 32, 8, 1, 5, 0, 0, "" },
    { "wr_bytes", 40, 8, 1, 1, 0, 0, "" },
    { "errs", 48, 8, 1, 5, 0, 0, "" },
    { "in_flight", 56, 8, 2, 0, 0, 0, "" },
};
static const struct domstat_field domstat_fields_blk_queue_io_times[] = {
    { "rd_total_ns", 16, 8, 1, 2, -9, 0, "" },
    { "wr_total_ns", 24, 8, 1, 2, -9, 0, "" },
    { "flush_req", 32, 8, 1, 5, 0, 0, "" },
    { "flush_total_ns", 40, 8, 1, 2, -9, 0, "" },
};
static const struct domstat_field domstat_fields_blk_queue_queue[] = {
    { "busy_ns", 16, 8, 1, 2, -9, 0, "" },
    { "queued_ns", 24, 8, 1, 2, -9, 0, "" },
    { "submitted", 32, 8, 1, 5, 0, 0, "" },
    { "completed", 40, 8, 1, 5, 0, 0, "" },
};
static const struct domstat_field domstat_fields_blk_queue_discards[] = {
    { "dis_req", 16, 8, 1, 5, 0, 0, "" },
    { "dis_bytes", 24, 8, 1, 1, 0, 0, "" },
    { "dis_total_ns", 32, 8, 1, 2, -9, 0, "" },
    { "dis_merged", 40, 8, 1, 5, 0, 0, "" },
};
static const struct domstat_field domstat_fields_blk_queue_failures[] = {
    { "rd_failed", 16, 8, 1, 5, 0, 0, "" },
    { "wr_failed", 24, 8, 1, 5, 0, 0, "" },
    { "flush_failed", 32, 8, 1, 5, 0, 0, "" },
    { "dis_failed", 40, 8, 1, 5, 0, 0, "" },
    { "rd_invalid", 48, 8, 1, 5, 0, 0, "" },
    { "wr_invalid", 56, 8, 1, 5, 0, 0, "" },
    { "flush_invalid", 64, 8, 1, 5, 0, 0, "" },
    { "dis_invalid", 72, 8, 1, 5, 0, 0, "" },
};
static const struct domstat_field domstat_fields_blk_queue_rd_latency[] = {
    { "sum_ns", 16, 8, 1, 2, -9, 0, "" },
    { "max_ns", 24, 8, 3, 2, -9, 0, "" },
    { "ns", 32, 320, 5, 2, -9, 40, "" },
};
static const struct domstat_field domstat_fields_blk_queue_wr_latency[] = {
    { "sum_ns", 16, 8, 1, 2, -9, 0, "" },
    { "max_ns", 24, 8, 3, 2, -9, 0, "" },
    { "ns", 32, 320, 5, 2, -9, 40, "" },
};
static const struct domstat_field domstat_fields_blk_queue_fl_latency[] = {
    { "sum_ns", 16, 8, 1, 2, -9, 0, "" },
    { "max_ns", 24, 8, 3, 2, -9, 0, "" },
    { "ns", 32, 320, 5, 2, -9, 40, "" },
};
static const struct domstat_field domstat_fields_blk_queue_rd_size[] = {
    { "sum_bytes", 16, 8, 1, 1, 0, 0, "" },
    { "max_bytes", 24, 8, 3, 1, 0, 0, "" },
    { "bytes", 32, 256, 5, 1, 0, 32, "" },
};
static const struct domstat_field domstat_fields_blk_queue_wr_size[] = {
    { "sum_bytes", 16, 8, 1, 1, 0, 0, "" },
    { "max_bytes", 24, 8, 3, 1, 0, 0, "" },
    { "bytes", 32, 256, 5, 1, 0, 32, "" },
};
static const struct domstat_field domstat_fields_net_queue_of[] = {
    { "device", 16, 8, 7, 0, 0, 0, "" },
    { "generation", 24, 8, 7, 0, 0, 0, "" },
    { "queue", 32, 8, 7, 0, 0, 0, "" },
    { "pid", 40, 8, 7, 0, 0, 0, "" },
};
static const struct domstat_field domstat_fields_net_queue_io[] = {
    { "rx_bytes", 16, 8, 1, 1, 0, 0, "" },
    { "rx_packets", 24, 8, 1, 5, 0, 0, "" },
    { "rx_errs", 32, 8, 1, 5, 0, 0, "" },
    { "rx_drop", 40, 8, 1, 5, 0, 0, "" },
    { "tx_bytes", 48, 8, 1, 1, 0, 0, "" },
    { "tx_packets", 56, 8, 1, 5, 0, 0, "" },
    { "tx_errs", 64, 8, 1, 5, 0, 0, "" },
    { "tx_drop", 72, 8, 1, 5, 0, 0, "" },
};
static const struct domstat_field domstat_fields_vcpu_hist_wait[] = {
    { "sum_ns", 16, 8, 1, 2, -9, 0, "" },
    { "max_ns", 24, 8, 3, 2, -9, 0, "" },
    { "ns", 32, 320, 5, 2, -9, 40, "" },
};
static const struct domstat_field domstat_fields_blk_hist_rd_latency[] = {
    { "sum_ns", 16, 8, 1, 2, -9, 0, "" },
    { "max_ns", 24, 8, 3, 2, -9, 0, "" },
    { "ns", 32, 320, 5, 2, -9, 40, "" },
};
static const struct domstat_field domstat_fields_blk_hist_wr_latency[] = {
    { "sum_ns", 16, 8, 1, 2, -9, 0, "" },
    { "max_ns", 24, 8, 3, 2, -9, 0, "" },
    { "ns", 32, 320, 5, 2, -9, 40, "" },
};
static const struct domstat_field domstat_fields_blk_hist_fl_latency[] = {
    { "sum_ns", 16, 8, 1, 2, -9, 0, "" },
    { "max_ns", 24, 8, 3, 2, -9, 0, "" },
    { "ns", 32, 320, 5, 2, -9, 40, "" },
};
static const struct domstat_field domstat_fields_blk_hist_rd_size[] = {
    { "sum_bytes", 16, 8, 1, 1, 0, 0, "" },
    { "max_bytes", 24, 8, 3, 1, 0, 0, "" },
    { "bytes", 32, 256, 5, 1, 0, 32, "" },
};
static const struct domstat_field domstat_fields_blk_hist_wr_size[] = {
    { "sum_bytes", 16, 8, 1, 1, 0, 0, "" },
    { "max_bytes", 24, 8, 3, 1, 0, 0, "" },
    { "bytes", 32, 256, 5, 1, 0, 32, "" },
};
static const struct domstat_field domstat_fields_labels_labels[] = {
    { "text", 16, 1024, 8, 0, 0, 0, "" },
};
#endif

/* Groups in the order of a schema: kind, name, bit, start, length, since, bit of the first
 * copy plus 1, fields. */
static const struct domstat_group domstat_groups[] = {
    { 1, "identity", 0, 128, 176, 1, 0, 4, domstat_fields_dom_identity },
    { 1, "memory", 1, 304, 96, 1, 0, 10, domstat_fields_dom_memory },
#if DOMSTAT_REVISION >= 2
    { 1, "cpu", 2, 400, 48, 2, 0, 4, domstat_fields_dom_cpu },
#endif
#if DOMSTAT_REVISION >= 5
    { 1, "status", 3, 448, 48, 5, 0, 4, domstat_fields_dom_status },
    { 1, "threads", 4, 496, 96, 5, 0, 10, domstat_fields_dom_threads },
    { 1, "limits", 5, 592, 96, 5, 0, 10, domstat_fields_dom_limits },
    { 1, "pressure", 6, 688, 64, 5, 0, 6, domstat_fields_dom_pressure },
    { 1, "balloon", 7, 752, 96, 5, 0, 10, domstat_fields_dom_balloon },
    { 1, "migration", 8, 848, 96, 5, 0, 10, domstat_fields_dom_migration },
    { 1, "lineage", 9, 944, 48, 5, 0, 4, domstat_fields_dom_lineage },
#endif
    { 2, "runstate", 0, 32, 64, 1, 0, 6, domstat_fields_vcpu_runstate },
#if DOMSTAT_REVISION >= 2
    { 2, "sched", 1, 96, 48, 2, 0, 4, domstat_fields_vcpu_sched },
    { 2, "exits", 2, 144, 80, 2, 0, 8, domstat_fields_vcpu_exits },
#endif
#if DOMSTAT_REVISION >= 4
    { 2, "runstate_twin", 3, 224, 64, 4, 1, 6, domstat_fields_vcpu_runstate },
    { 2, "sched_twin", 4, 288, 48, 4, 2, 4, domstat_fields_vcpu_sched },
#endif
#if DOMSTAT_REVISION >= 2
    { 3, "identity", 0, 32, 144, 2, 0, 1, domstat_fields_blk_identity },
    { 3, "io", 1, 176, 64, 2, 0, 6, domstat_fields_blk_io },
#endif
#if DOMSTAT_REVISION >= 3
    { 3, "io_times", 2, 240, 48, 3, 0, 4, domstat_fields_blk_io_times },
    { 3, "extent", 3, 288, 64, 3, 0, 6, domstat_fields_blk_extent },
    { 3, "vbd", 4, 352, 48, 3, 0, 4, domstat_fields_blk_vbd },
    { 3, "job", 5, 400, 64, 3, 0, 6, domstat_fields_blk_job },
#endif
#if DOMSTAT_REVISION >= 4
    { 3, "io_twin", 6, 464, 64, 4, 2, 6, domstat_fields_blk_io },
#endif
#if DOMSTAT_REVISION >= 5
    { 3, "queue", 7, 528, 48, 5, 0, 4, domstat_fields_blk_queue },
    { 3, "discards", 8, 576, 48, 5, 0, 4, domstat_fields_blk_discards },
    { 3, "failures", 9, 624, 80, 5, 0, 8, domstat_fields_blk_failures },
    { 3, "limits", 10, 704, 80, 5, 0, 8, domstat_fields_blk_limits },
#endif
#if DOMSTAT_REVISION >= 4
    { 4, "identity", 0, 32, 144, 4, 0, 1, domstat_fields_net_identity },
    { 4, "io", 1, 176, 80, 4, 0, 8, domstat_fields_net_io },
#endif
#if DOMSTAT_REVISION >= 5
    { 4, "limits", 2, 256, 80, 5, 0, 8, domstat_fields_net_limits },
    { 7, "of", 0, 32, 48, 5, 0, 4, domstat_fields_blk_queue_of },
    { 7, "io", 1, 80, 64, 5, 0, 6, domstat_fields_blk_queue_io },
    { 7, "io_times", 2, 144, 48, 5, 0, 4, domstat_fields_blk_queue_io_times },
    { 7, "queue", 3, 192, 48, 5, 0, 4, domstat_fields_blk_queue_queue },
    { 7, "discards", 4, 240, 48, 5, 0, 4, domstat_fields_blk_queue_discards },
    { 7, "failures", 5, 288, 80, 5, 0, 8, domstat_fields_blk_queue_failures },
    { 7, "rd_latency", 6, 368, 352, 5, 0, 3, domstat_fields_blk_queue_rd_latency },
    { 7, "wr_latency", 7, 720, 352, 5, 0, 3, domstat_fields_blk_queue_wr_latency },
    { 7, "fl_latency", 8, 1072, 352, 5, 0, 3, domstat_fields_blk_queue_fl_latency },
    { 7, "rd_size", 9, 1424, 288, 5, 0, 3, domstat_fields_blk_queue_rd_size },
    { 7, "wr_size", 10, 1712, 288, 5, 0, 3, domstat_fields_blk_queue_wr_size },
    { 8, "of", 0, 32, 48, 5, 0, 4, domstat_fields_net_queue_of },
    { 8, "io", 1, 80, 80, 5, 0, 8, domstat_fields_net_queue_io },
    { 11, "wait", 0, 32, 352, 5, 0, 3, domstat_fields_vcpu_hist_wait },
    { 12, "rd_latency", 0, 32, 352, 5, 0, 3, domstat_fields_blk_hist_rd_latency },
    { 12, "wr_latency", 1, 384, 352, 5, 0, 3, domstat_fields_blk_hist_wr_latency },
    { 12, "fl_latency", 2, 736, 352, 5, 0, 3, domstat_fields_blk_hist_fl_latency },
    { 12, "rd_size", 3, 1088, 288, 5, 0, 3, domstat_fields_blk_hist_rd_size },
    { 12, "wr_size", 4, 1376, 288, 5, 0, 3, domstat_fields_blk_hist_wr_size },
    { 13, "labels", 0, 32, 1040, 5, 0, 1, domstat_fields_labels_labels },
#endif
};

/* Bytes that all strings of a schema take. */
#define DOMSTAT_STRINGS_LEN 2638u

DOMSTAT_RECORD(domstat_dom, dom, DOMSTAT_KIND_DOM)
DOMSTAT_RECORD(domstat_vcpu, vcpu, DOMSTAT_KIND_VCPU)
#if DOMSTAT_REVISION >= 2
DOMSTAT_RECORD(domstat_blk, blk, DOMSTAT_KIND_BLK)
#endif
#if DOMSTAT_REVISION >= 4
DOMSTAT_RECORD(domstat_net, net, DOMSTAT_KIND_NET)
#endif
#if DOMSTAT_REVISION >= 5
DOMSTAT_RECORD(domstat_blk_queue_record, blk_queue, DOMSTAT_KIND_BLK_QUEUE)
#endif
#if DOMSTAT_REVISION >= 5
DOMSTAT_RECORD(domstat_net_queue_record, net_queue, DOMSTAT_KIND_NET_QUEUE)
#endif
#if DOMSTAT_REVISION >= 5
DOMSTAT_RECORD(domstat_vcpu_hist_record, vcpu_hist, DOMSTAT_KIND_VCPU_HIST)
#endif
#if DOMSTAT_REVISION >= 5
DOMSTAT_RECORD(domstat_blk_hist_record, blk_hist, DOMSTAT_KIND_BLK_HIST)
#endif
#if DOMSTAT_REVISION >= 5
DOMSTAT_RECORD(domstat_labels_record, labels, DOMSTAT_KIND_LABELS)
#endif

DOMSTAT_GROUP(domstat_dom, dom_identity, identity, DOMSTAT_DOM_IDENTITY_BIT)
DOMSTAT_GROUP(domstat_dom, dom_memory, memory, DOMSTAT_DOM_MEMORY_BIT)
#if DOMSTAT_REVISION >= 2
DOMSTAT_GROUP(domstat_dom, dom_cpu, cpu, DOMSTAT_DOM_CPU_BIT)
#endif
#if DOMSTAT_REVISION >= 5
DOMSTAT_GROUP(domstat_dom, dom_status, status, DOMSTAT_DOM_STATUS_BIT)
DOMSTAT_GROUP(domstat_dom, dom_threads, threads, DOMSTAT_DOM_THREADS_BIT)
DOMSTAT_GROUP(domstat_dom, dom_limits, limits, DOMSTAT_DOM_LIMITS_BIT)
DOMSTAT_GROUP(domstat_dom, dom_pressure, pressure, DOMSTAT_DOM_PRESSURE_BIT)
DOMSTAT_GROUP(domstat_dom, dom_balloon, balloon, DOMSTAT_DOM_BALLOON_BIT)
DOMSTAT_GROUP(domstat_dom, dom_migration, migration, DOMSTAT_DOM_MIGRATION_BIT)
DOMSTAT_GROUP(domstat_dom, dom_lineage, lineage, DOMSTAT_DOM_LINEAGE_BIT)
#endif
#if DOMSTAT_REVISION >= 4
DOMSTAT_TWINS(domstat_vcpu, vcpu_runstate, runstate, DOMSTAT_VCPU_RUNSTATE_BIT, runstate_twin, DOMSTAT_VCPU_RUNSTATE_TWIN_BIT)
#else
DOMSTAT_GROUP(domstat_vcpu, vcpu_runstate, runstate, DOMSTAT_VCPU_RUNSTATE_BIT)
#endif
#if DOMSTAT_REVISION >= 2
#if DOMSTAT_REVISION >= 4
DOMSTAT_TWINS(domstat_vcpu, vcpu_sched, sched, DOMSTAT_VCPU_SCHED_BIT, sched_twin, DOMSTAT_VCPU_SCHED_TWIN_BIT)
#else
DOMSTAT_GROUP(domstat_vcpu, vcpu_sched, sched, DOMSTAT_VCPU_SCHED_BIT)
#endif
DOMSTAT_GROUP(domstat_vcpu, vcpu_exits, exits, DOMSTAT_VCPU_EXITS_BIT)
DOMSTAT_GROUP(domstat_blk, blk_identity, identity, DOMSTAT_BLK_IDENTITY_BIT)
#if DOMSTAT_REVISION >= 4
DOMSTAT_TWINS(domstat_blk, blk_io, io, DOMSTAT_BLK_IO_BIT, io_twin, DOMSTAT_BLK_IO_TWIN_BIT)
#else
DOMSTAT_GROUP(domstat_blk, blk_io, io, DOMSTAT_BLK_IO_BIT)
#endif
#endif
#if DOMSTAT_REVISION >= 3
DOMSTAT_GROUP(domstat_blk, blk_io_times, io_times, DOMSTAT_BLK_IO_TIMES_BIT)
DOMSTAT_GROUP(domstat_blk, blk_extent, extent, DOMSTAT_BLK_EXTENT_BIT)
DOMSTAT_GROUP(domstat_blk, blk_vbd, vbd, DOMSTAT_BLK_VBD_BIT)
DOMSTAT_GROUP(domstat_blk, blk_job, job, DOMSTAT_BLK_JOB_BIT)
#endif
#if DOMSTAT_REVISION >= 5
DOMSTAT_GROUP(domstat_blk, blk_queue, queue, DOMSTAT_BLK_QUEUE_BIT)
DOMSTAT_GROUP(domstat_blk, blk_discards, discards, DOMSTAT_BLK_DISCARDS_BIT)
DOMSTAT_GROUP(domstat_blk, blk_failures, failures, DOMSTAT_BLK_FAILURES_BIT)
DOMSTAT_GROUP(domstat_blk, blk_limits, limits, DOMSTAT_BLK_LIMITS_BIT)
#endif
#if DOMSTAT_REVISION >= 4
DOMSTAT_GROUP(domstat_net, net_identity, identity, DOMSTAT_NET_IDENTITY_BIT)
DOMSTAT_GROUP(domstat_net, net_io, io, DOMSTAT_NET_IO_BIT)
#endif
#if DOMSTAT_REVISION >= 5
DOMSTAT_GROUP(domstat_net, net_limits, limits, DOMSTAT_NET_LIMITS_BIT)
DOMSTAT_GROUP(domstat_blk_queue_record, blk_queue_of, of, DOMSTAT_BLK_QUEUE_OF_BIT)
DOMSTAT_GROUP(domstat_blk_queue_record, blk_queue_io, io, DOMSTAT_BLK_QUEUE_IO_BIT)
DOMSTAT_GROUP(domstat_blk_queue_record, blk_queue_io_times, io_times, DOMSTAT_BLK_QUEUE_IO_TIMES_BIT)
DOMSTAT_GROUP(domstat_blk_queue_record, blk_queue_queue, queue, DOMSTAT_BLK_QUEUE_QUEUE_BIT)
DOMSTAT_GROUP(domstat_blk_queue_record, blk_queue_discards, discards, DOMSTAT_BLK_QUEUE_DISCARDS_BIT)
DOMSTAT_GROUP(domstat_blk_queue_record, blk_queue_failures, failures, DOMSTAT_BLK_QUEUE_FAILURES_BIT)
DOMSTAT_GROUP(domstat_blk_queue_record, blk_queue_rd_latency, rd_latency, DOMSTAT_BLK_QUEUE_RD_LATENCY_BIT)
DOMSTAT_DISTRIBUTION(domstat_blk_queue_record, blk_queue_rd_latency, rd_latency, DOMSTAT_BLK_QUEUE_RD_LATENCY_BIT, ns)
DOMSTAT_GROUP(domstat_blk_queue_record, blk_queue_wr_latency, wr_latency, DOMSTAT_BLK_QUEUE_WR_LATENCY_BIT)
DOMSTAT_DISTRIBUTION(domstat_blk_queue_record, blk_queue_wr_latency, wr_latency, DOMSTAT_BLK_QUEUE_WR_LATENCY_BIT, ns)
DOMSTAT_GROUP(domstat_blk_queue_record, blk_queue_fl_latency, fl_latency, DOMSTAT_BLK_QUEUE_FL_LATENCY_BIT)
DOMSTAT_DISTRIBUTION(domstat_blk_queue_record, blk_queue_fl_latency, fl_latency, DOMSTAT_BLK_QUEUE_FL_LATENCY_BIT, ns)
DOMSTAT_GROUP(domstat_blk_queue_record, blk_queue_rd_size, rd_size, DOMSTAT_BLK_QUEUE_RD_SIZE_BIT)
DOMSTAT_DISTRIBUTION(domstat_blk_queue_record, blk_queue_rd_size, rd_size, DOMSTAT_BLK_QUEUE_RD_SIZE_BIT, bytes)
DOMSTAT_GROUP(domstat_blk_queue_record, blk_queue_wr_size, wr_size, DOMSTAT_BLK_QUEUE_WR_SIZE_BIT)
DOMSTAT_DISTRIBUTION(domstat_blk_queue_record, blk_queue_wr_size, wr_size, DOMSTAT_BLK_QUEUE_WR_SIZE_BIT, bytes)
DOMSTAT_GROUP(domstat_net_queue_record, net_queue_of, of, DOMSTAT_NET_QUEUE_OF_BIT)
DOMSTAT_GROUP(domstat_net_queue_record, net_queue_io, io, DOMSTAT_NET_QUEUE_IO_BIT)
DOMSTAT_GROUP(domstat_vcpu_hist_record, vcpu_hist_wait, wait, DOMSTAT_VCPU_HIST_WAIT_BIT)
DOMSTAT_DISTRIBUTION(domstat_vcpu_hist_record, vcpu_hist_wait, wait, DOMSTAT_VCPU_HIST_WAIT_BIT, ns)
DOMSTAT_GROUP(domstat_blk_hist_record, blk_hist_rd_latency, rd_latency, DOMSTAT_BLK_HIST_RD_LATENCY_BIT)
DOMSTAT_DISTRIBUTION(domstat_blk_hist_record, blk_hist_rd_latency, rd_latency, DOMSTAT_BLK_HIST_RD_LATENCY_BIT, ns)
DOMSTAT_GROUP(domstat_blk_hist_record, blk_hist_wr_latency, wr_latency, DOMSTAT_BLK_HIST_WR_LATENCY_BIT)
DOMSTAT_DISTRIBUTION(domstat_blk_hist_record, blk_hist_wr_latency, wr_latency, DOMSTAT_BLK_HIST_WR_LATENCY_BIT, ns)
DOMSTAT_GROUP(domstat_blk_hist_record, blk_hist_fl_latency, fl_latency, DOMSTAT_BLK_HIST_FL_LATENCY_BIT)
DOMSTAT_DISTRIBUTION(domstat_blk_hist_record, blk_hist_fl_latency, fl_latency, DOMSTAT_BLK_HIST_FL_LATENCY_BIT, ns)
DOMSTAT_GROUP(domstat_blk_hist_record, blk_hist_rd_size, rd_size, DOMSTAT_BLK_HIST_RD_SIZE_BIT)
DOMSTAT_DISTRIBUTION(domstat_blk_hist_record, blk_hist_rd_size, rd_size, DOMSTAT_BLK_HIST_RD_SIZE_BIT, bytes)
DOMSTAT_GROUP(domstat_blk_hist_record, blk_hist_wr_size, wr_size, DOMSTAT_BLK_HIST_WR_SIZE_BIT)
DOMSTAT_DISTRIBUTION(domstat_blk_hist_record, blk_hist_wr_size, wr_size, DOMSTAT_BLK_HIST_WR_SIZE_BIT, bytes)
DOMSTAT_GROUP(domstat_labels_record, labels_labels, labels, DOMSTAT_LABELS_LABELS_BIT)
#endif

#endif
