/* The domain-stats shared-memory ABI, revision 5, in C99.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 * Generated from the descriptor table by ci/generated.sh. FROZEN when it landed.
 *
 * Integers are little-endian. A group is guarded by its seq (odd: update in
 * progress). Sizes and strides come from the header of the region, never from
 * sizeof; a group may be read if its bit is set and it ends inside the size that
 * the header states. Comments after fields state kind, unit and values. */
#ifdef DOMSTAT_REVISION
#error "only one revision's header can be included"
#endif
#define DOMSTAT_REVISION 5

#include <stddef.h>
#include <stdint.h>

/* What a word can say instead of a number. */
#define DOMSTAT_NOT_PRODUCED (~(uint64_t)0)
#define DOMSTAT_SATURATED (~(uint64_t)1)

#define DOMSTAT_DOM_MAGIC 0x014d4f44u
#define DOMSTAT_VCPU_MAGIC 0x01504356u
#define DOMSTAT_BLK_MAGIC 0x014b4c42u
#define DOMSTAT_NET_MAGIC 0x0154454eu
#define DOMSTAT_BLK_QUEUE_MAGIC 0x01514c42u
#define DOMSTAT_NET_QUEUE_MAGIC 0x0151544eu
#define DOMSTAT_VCPU_HIST_MAGIC 0x01484356u
#define DOMSTAT_BLK_HIST_MAGIC 0x01484c42u
#define DOMSTAT_LABELS_MAGIC 0x0142414cu
#define DOMSTAT_ARCH_MAGIC 0x01435241u
#define DOMSTAT_SCHEMA_MAGIC 0x01484353u

/* Numbers of the kinds of record in a schema; from PRIVATE on they are never given out. */
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
#define DOMSTAT_KIND_PRIVATE 0x80000000u

/* Values of state and of clock in the header. */
#define DOMSTAT_STATE_INITIALIZING 0u
#define DOMSTAT_STATE_LIVE 1u
#define DOMSTAT_STATE_RETIRED 2u
#define DOMSTAT_CLOCK_UNKNOWN 0u
#define DOMSTAT_CLOCK_MONOTONIC 1u
#define DOMSTAT_CLOCK_BOOTTIME 2u
#define DOMSTAT_CLOCK_XEN 3u

struct domstat_dom_header {
    uint32_t magic; /* "DOM" and 1, the incompatible ABI version; stored last */
    uint32_t dom_size; /* length of the dom record as the producer was built */
    uint32_t vcpu_offs; /* start of the vcpu array, from the region start */
    uint32_t vcpu_size; /* length of one vcpu record as the producer was built */
    uint32_t vcpu_stride; /* distance between vcpu records */
    uint32_t nr_vcpus; /* records in the vcpu array */
    uint64_t stats_active; /* one bit per group that is produced */
    uint32_t align; /* alignment of vcpu_offs and vcpu_stride, a power of two */
    uint32_t state; /* 0 initializing, 1 live, 2 retired */
    uint64_t incarnation; /* differs whenever the region is created anew */
    uint32_t notify; /* bumped, then woken as a futex, on discrete events */
    uint32_t revision; /* the producer's revision; information only */
    uint32_t clock; /* 1 CLOCK_MONOTONIC, 2 CLOCK_BOOTTIME, 3 Xen system time, 0 unknown */
    uint32_t arch_dom_offs; /* start of the domain's arch slot (revision 4) */
    uint32_t arch_dom_size; /* its length */
    uint32_t arch_vcpu_offs; /* start of a vCPU's arch slot in the stride of its record (revision 4) */
    uint32_t arch_vcpu_size; /* its length */
    uint32_t schema_offs; /* start of the schema (revision 4) */
    uint32_t schema_size; /* its length */
    uint32_t blk_offs; /* start of the blk array (revision 2) */
    uint32_t blk_size; /* length of one blk record as the producer was built */
    uint32_t blk_stride; /* distance between blk records */
    uint32_t nr_blks; /* records in the blk array */
    uint32_t net_offs; /* start of the net array (revision 4) */
    uint32_t net_size; /* length of one net record as the producer was built */
    uint32_t net_stride; /* distance between net records */
    uint32_t nr_nets; /* records in the net array */
    uint32_t reserved0[3];
};
typedef char domstat_check_dom_header_magic[(offsetof(struct domstat_dom_header, magic) == 0) ? 1 : -1];
typedef char domstat_check_dom_header_dom_size[(offsetof(struct domstat_dom_header, dom_size) == 4) ? 1 : -1];
typedef char domstat_check_dom_header_vcpu_offs[(offsetof(struct domstat_dom_header, vcpu_offs) == 8) ? 1 : -1];
typedef char domstat_check_dom_header_vcpu_size[(offsetof(struct domstat_dom_header, vcpu_size) == 12) ? 1 : -1];
typedef char domstat_check_dom_header_vcpu_stride[(offsetof(struct domstat_dom_header, vcpu_stride) == 16) ? 1 : -1];
typedef char domstat_check_dom_header_nr_vcpus[(offsetof(struct domstat_dom_header, nr_vcpus) == 20) ? 1 : -1];
typedef char domstat_check_dom_header_stats_active[(offsetof(struct domstat_dom_header, stats_active) == 24) ? 1 : -1];
typedef char domstat_check_dom_header_align[(offsetof(struct domstat_dom_header, align) == 32) ? 1 : -1];
typedef char domstat_check_dom_header_state[(offsetof(struct domstat_dom_header, state) == 36) ? 1 : -1];
typedef char domstat_check_dom_header_incarnation[(offsetof(struct domstat_dom_header, incarnation) == 40) ? 1 : -1];
typedef char domstat_check_dom_header_notify[(offsetof(struct domstat_dom_header, notify) == 48) ? 1 : -1];
typedef char domstat_check_dom_header_revision[(offsetof(struct domstat_dom_header, revision) == 52) ? 1 : -1];
typedef char domstat_check_dom_header_clock[(offsetof(struct domstat_dom_header, clock) == 56) ? 1 : -1];
typedef char domstat_check_dom_header_arch_dom_offs[(offsetof(struct domstat_dom_header, arch_dom_offs) == 60) ? 1 : -1];
typedef char domstat_check_dom_header_arch_dom_size[(offsetof(struct domstat_dom_header, arch_dom_size) == 64) ? 1 : -1];
typedef char domstat_check_dom_header_arch_vcpu_offs[(offsetof(struct domstat_dom_header, arch_vcpu_offs) == 68) ? 1 : -1];
typedef char domstat_check_dom_header_arch_vcpu_size[(offsetof(struct domstat_dom_header, arch_vcpu_size) == 72) ? 1 : -1];
typedef char domstat_check_dom_header_schema_offs[(offsetof(struct domstat_dom_header, schema_offs) == 76) ? 1 : -1];
typedef char domstat_check_dom_header_schema_size[(offsetof(struct domstat_dom_header, schema_size) == 80) ? 1 : -1];
typedef char domstat_check_dom_header_blk_offs[(offsetof(struct domstat_dom_header, blk_offs) == 84) ? 1 : -1];
typedef char domstat_check_dom_header_blk_size[(offsetof(struct domstat_dom_header, blk_size) == 88) ? 1 : -1];
typedef char domstat_check_dom_header_blk_stride[(offsetof(struct domstat_dom_header, blk_stride) == 92) ? 1 : -1];
typedef char domstat_check_dom_header_nr_blks[(offsetof(struct domstat_dom_header, nr_blks) == 96) ? 1 : -1];
typedef char domstat_check_dom_header_net_offs[(offsetof(struct domstat_dom_header, net_offs) == 100) ? 1 : -1];
typedef char domstat_check_dom_header_net_size[(offsetof(struct domstat_dom_header, net_size) == 104) ? 1 : -1];
typedef char domstat_check_dom_header_net_stride[(offsetof(struct domstat_dom_header, net_stride) == 108) ? 1 : -1];
typedef char domstat_check_dom_header_nr_nets[(offsetof(struct domstat_dom_header, nr_nets) == 112) ? 1 : -1];
typedef char domstat_check_dom_header[(sizeof(struct domstat_dom_header) == 128) ? 1 : -1];

struct domstat_record_header {
    uint32_t magic; /* of its kind, such as "VCP" and 1 */
    uint32_t index; /* position of the record in its array */
    uint64_t stats_active; /* one bit per group that is produced */
    uint32_t generation; /* bumped when the slot is given to something else */
    uint32_t reserved0[3];
};
typedef char domstat_check_record_header_magic[(offsetof(struct domstat_record_header, magic) == 0) ? 1 : -1];
typedef char domstat_check_record_header_index[(offsetof(struct domstat_record_header, index) == 4) ? 1 : -1];
typedef char domstat_check_record_header_stats_active[(offsetof(struct domstat_record_header, stats_active) == 8) ? 1 : -1];
typedef char domstat_check_record_header_generation[(offsetof(struct domstat_record_header, generation) == 16) ? 1 : -1];
typedef char domstat_check_record_header[(sizeof(struct domstat_record_header) == 32) ? 1 : -1];

/* Who the domain is. Written once by the creator of the region, before it is published; constant within an incarnation.
 * Since revision 1. */
#define DOMSTAT_DOM_IDENTITY_BIT 0
struct domstat_dom_identity {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t domid; /* id, - */
    uint8_t uuid[16]; /* id, - */
    char name[128]; /* text, - */
    uint64_t created_ns; /* id, ns */
};
typedef char domstat_check_dom_identity_domid[(offsetof(struct domstat_dom_identity, domid) == 16) ? 1 : -1];
typedef char domstat_check_dom_identity_uuid[(offsetof(struct domstat_dom_identity, uuid) == 24) ? 1 : -1];
typedef char domstat_check_dom_identity_name[(offsetof(struct domstat_dom_identity, name) == 40) ? 1 : -1];
typedef char domstat_check_dom_identity_created_ns[(offsetof(struct domstat_dom_identity, created_ns) == 168) ? 1 : -1];
typedef char domstat_check_dom_identity[(sizeof(struct domstat_dom_identity) == 176) ? 1 : -1];

/* The domain's memory as the host sees it. Written by the domain's management thread, at its own interval. The names are those of libvirt's balloon statistics, in bytes.
 * Since revision 1. */
#define DOMSTAT_DOM_MEMORY_BIT 1
struct domstat_dom_memory {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t current_bytes; /* instant, bytes */
    uint64_t maximum_bytes; /* instant, bytes */
    uint64_t rss_bytes; /* instant, bytes */
    uint64_t unused_bytes; /* instant, bytes */
    uint64_t available_bytes; /* instant, bytes */
    uint64_t usable_bytes; /* instant, bytes */
    uint64_t swap_in_bytes; /* cumulative, bytes */
    uint64_t swap_out_bytes; /* cumulative, bytes */
    uint64_t major_faults; /* cumulative, events */
    uint64_t minor_faults; /* cumulative, events */
};
typedef char domstat_check_dom_memory_current_bytes[(offsetof(struct domstat_dom_memory, current_bytes) == 16) ? 1 : -1];
typedef char domstat_check_dom_memory_maximum_bytes[(offsetof(struct domstat_dom_memory, maximum_bytes) == 24) ? 1 : -1];
typedef char domstat_check_dom_memory_rss_bytes[(offsetof(struct domstat_dom_memory, rss_bytes) == 32) ? 1 : -1];
typedef char domstat_check_dom_memory_unused_bytes[(offsetof(struct domstat_dom_memory, unused_bytes) == 40) ? 1 : -1];
typedef char domstat_check_dom_memory_available_bytes[(offsetof(struct domstat_dom_memory, available_bytes) == 48) ? 1 : -1];
typedef char domstat_check_dom_memory_usable_bytes[(offsetof(struct domstat_dom_memory, usable_bytes) == 56) ? 1 : -1];
typedef char domstat_check_dom_memory_swap_in_bytes[(offsetof(struct domstat_dom_memory, swap_in_bytes) == 64) ? 1 : -1];
typedef char domstat_check_dom_memory_swap_out_bytes[(offsetof(struct domstat_dom_memory, swap_out_bytes) == 72) ? 1 : -1];
typedef char domstat_check_dom_memory_major_faults[(offsetof(struct domstat_dom_memory, major_faults) == 80) ? 1 : -1];
typedef char domstat_check_dom_memory_minor_faults[(offsetof(struct domstat_dom_memory, minor_faults) == 88) ? 1 : -1];
typedef char domstat_check_dom_memory[(sizeof(struct domstat_dom_memory) == 96) ? 1 : -1];

/* CPU time that the domain costs the host. Written by the domain's management thread, at its own interval. The names are those of libvirt's cpu statistics.
 * Since revision 2. */
#define DOMSTAT_DOM_CPU_BIT 2
struct domstat_dom_cpu {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t time_ns; /* cumulative, ns */
    uint64_t user_ns; /* cumulative, ns */
    uint64_t system_ns; /* cumulative, ns */
    uint64_t vcpus_ns; /* cumulative, ns */
};
typedef char domstat_check_dom_cpu_time_ns[(offsetof(struct domstat_dom_cpu, time_ns) == 16) ? 1 : -1];
typedef char domstat_check_dom_cpu_user_ns[(offsetof(struct domstat_dom_cpu, user_ns) == 24) ? 1 : -1];
typedef char domstat_check_dom_cpu_system_ns[(offsetof(struct domstat_dom_cpu, system_ns) == 32) ? 1 : -1];
typedef char domstat_check_dom_cpu_vcpus_ns[(offsetof(struct domstat_dom_cpu, vcpus_ns) == 40) ? 1 : -1];
typedef char domstat_check_dom_cpu[(sizeof(struct domstat_dom_cpu) == 48) ? 1 : -1];

/* What hypervisor or VMM says of the domain (the region's own life is the header's `state`). Written by the domain's management thread, when the state changes.
 * Since revision 5. */
#define DOMSTAT_DOM_STATUS_BIT 3
#define DOMSTAT_DOM_STATUS_STATE_RUNNING 0u
#define DOMSTAT_DOM_STATUS_STATE_PAUSED 1u
#define DOMSTAT_DOM_STATUS_STATE_SUSPENDED 2u
#define DOMSTAT_DOM_STATUS_STATE_SHUTDOWN 3u
#define DOMSTAT_DOM_STATUS_STATE_CRASHED 4u
#define DOMSTAT_DOM_STATUS_STATE_DYING 5u
#define DOMSTAT_DOM_STATUS_STATE_MIGRATING 6u
#define DOMSTAT_DOM_STATUS_STATE_IO_ERROR 7u
#define DOMSTAT_DOM_STATUS_STATE_UNKNOWN 8u
#define DOMSTAT_DOM_STATUS_REASON_UNKNOWN 0u
#define DOMSTAT_DOM_STATUS_REASON_STARTED 1u
#define DOMSTAT_DOM_STATUS_REASON_USER 2u
#define DOMSTAT_DOM_STATUS_REASON_GUEST 3u
#define DOMSTAT_DOM_STATUS_REASON_MIGRATION 4u
#define DOMSTAT_DOM_STATUS_REASON_SNAPSHOT 5u
#define DOMSTAT_DOM_STATUS_REASON_SAVED 6u
#define DOMSTAT_DOM_STATUS_REASON_IO_ERROR 7u
#define DOMSTAT_DOM_STATUS_REASON_NO_SPACE 8u
#define DOMSTAT_DOM_STATUS_REASON_WATCHDOG 9u
#define DOMSTAT_DOM_STATUS_REASON_PANIC 10u
#define DOMSTAT_DOM_STATUS_REASON_HOST_ERROR 11u
#define DOMSTAT_DOM_STATUS_REASON_DEBUG 12u
struct domstat_dom_status {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t state; /* state, -: running paused suspended shutdown crashed dying migrating io_error unknown */
    uint64_t reason; /* state, -: unknown started user guest migration snapshot saved io_error no_space watchdog panic host_error debug */
    uint64_t since_ns; /* instant, ns */
    uint64_t device; /* instant, - */
};
typedef char domstat_check_dom_status_state[(offsetof(struct domstat_dom_status, state) == 16) ? 1 : -1];
typedef char domstat_check_dom_status_reason[(offsetof(struct domstat_dom_status, reason) == 24) ? 1 : -1];
typedef char domstat_check_dom_status_since_ns[(offsetof(struct domstat_dom_status, since_ns) == 32) ? 1 : -1];
typedef char domstat_check_dom_status_device[(offsetof(struct domstat_dom_status, device) == 40) ? 1 : -1];
typedef char domstat_check_dom_status[(sizeof(struct domstat_dom_status) == 48) ? 1 : -1];

/* CPU time and number of the domain's host threads by role. Written by the domain's management thread, at its own interval. Times include threads that have ended.
 * Since revision 5. */
#define DOMSTAT_DOM_THREADS_BIT 4
struct domstat_dom_threads {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t vcpu_ns; /* cumulative, ns */
    uint64_t vcpu_threads; /* instant, - */
    uint64_t iothread_ns; /* cumulative, ns */
    uint64_t iothread_threads; /* instant, - */
    uint64_t vhost_ns; /* cumulative, ns */
    uint64_t vhost_threads; /* instant, - */
    uint64_t worker_ns; /* cumulative, ns */
    uint64_t worker_threads; /* instant, - */
    uint64_t other_ns; /* cumulative, ns */
    uint64_t other_threads; /* instant, - */
};
typedef char domstat_check_dom_threads_vcpu_ns[(offsetof(struct domstat_dom_threads, vcpu_ns) == 16) ? 1 : -1];
typedef char domstat_check_dom_threads_vcpu_threads[(offsetof(struct domstat_dom_threads, vcpu_threads) == 24) ? 1 : -1];
typedef char domstat_check_dom_threads_iothread_ns[(offsetof(struct domstat_dom_threads, iothread_ns) == 32) ? 1 : -1];
typedef char domstat_check_dom_threads_iothread_threads[(offsetof(struct domstat_dom_threads, iothread_threads) == 40) ? 1 : -1];
typedef char domstat_check_dom_threads_vhost_ns[(offsetof(struct domstat_dom_threads, vhost_ns) == 48) ? 1 : -1];
typedef char domstat_check_dom_threads_vhost_threads[(offsetof(struct domstat_dom_threads, vhost_threads) == 56) ? 1 : -1];
typedef char domstat_check_dom_threads_worker_ns[(offsetof(struct domstat_dom_threads, worker_ns) == 64) ? 1 : -1];
typedef char domstat_check_dom_threads_worker_threads[(offsetof(struct domstat_dom_threads, worker_threads) == 72) ? 1 : -1];
typedef char domstat_check_dom_threads_other_ns[(offsetof(struct domstat_dom_threads, other_ns) == 80) ? 1 : -1];
typedef char domstat_check_dom_threads_other_threads[(offsetof(struct domstat_dom_threads, other_threads) == 88) ? 1 : -1];
typedef char domstat_check_dom_threads[(sizeof(struct domstat_dom_threads) == 96) ? 1 : -1];

/* Limits of the control group that holds the domain, and what they cost it. Written by the domain's management thread, at its own interval. The names are those of cgroup v2.
 * Since revision 5. */
#define DOMSTAT_DOM_LIMITS_BIT 5
struct domstat_dom_limits {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t cpu_quota_ns; /* instant, ns */
    uint64_t cpu_period_ns; /* instant, ns */
    uint64_t cpu_weight; /* instant, - */
    uint64_t cpu_periods; /* cumulative, events */
    uint64_t cpu_throttled_periods; /* cumulative, events */
    uint64_t cpu_throttled_ns; /* cumulative, ns */
    uint64_t memory_max_bytes; /* instant, bytes */
    uint64_t memory_high_bytes; /* instant, bytes */
    uint64_t memory_high_events; /* cumulative, events */
    uint64_t oom_kills; /* cumulative, events */
};
typedef char domstat_check_dom_limits_cpu_quota_ns[(offsetof(struct domstat_dom_limits, cpu_quota_ns) == 16) ? 1 : -1];
typedef char domstat_check_dom_limits_cpu_period_ns[(offsetof(struct domstat_dom_limits, cpu_period_ns) == 24) ? 1 : -1];
typedef char domstat_check_dom_limits_cpu_weight[(offsetof(struct domstat_dom_limits, cpu_weight) == 32) ? 1 : -1];
typedef char domstat_check_dom_limits_cpu_periods[(offsetof(struct domstat_dom_limits, cpu_periods) == 40) ? 1 : -1];
typedef char domstat_check_dom_limits_cpu_throttled_periods[(offsetof(struct domstat_dom_limits, cpu_throttled_periods) == 48) ? 1 : -1];
typedef char domstat_check_dom_limits_cpu_throttled_ns[(offsetof(struct domstat_dom_limits, cpu_throttled_ns) == 56) ? 1 : -1];
typedef char domstat_check_dom_limits_memory_max_bytes[(offsetof(struct domstat_dom_limits, memory_max_bytes) == 64) ? 1 : -1];
typedef char domstat_check_dom_limits_memory_high_bytes[(offsetof(struct domstat_dom_limits, memory_high_bytes) == 72) ? 1 : -1];
typedef char domstat_check_dom_limits_memory_high_events[(offsetof(struct domstat_dom_limits, memory_high_events) == 80) ? 1 : -1];
typedef char domstat_check_dom_limits_oom_kills[(offsetof(struct domstat_dom_limits, oom_kills) == 88) ? 1 : -1];
typedef char domstat_check_dom_limits[(sizeof(struct domstat_dom_limits) == 96) ? 1 : -1];

/* Time that threads of the domain's control group lost for want of a resource: Linux' pressure stall information. Written by the domain's management thread, at its own interval.
 * Since revision 5. */
#define DOMSTAT_DOM_PRESSURE_BIT 6
struct domstat_dom_pressure {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t cpu_some_ns; /* cumulative, ns */
    uint64_t cpu_full_ns; /* cumulative, ns */
    uint64_t memory_some_ns; /* cumulative, ns */
    uint64_t memory_full_ns; /* cumulative, ns */
    uint64_t io_some_ns; /* cumulative, ns */
    uint64_t io_full_ns; /* cumulative, ns */
};
typedef char domstat_check_dom_pressure_cpu_some_ns[(offsetof(struct domstat_dom_pressure, cpu_some_ns) == 16) ? 1 : -1];
typedef char domstat_check_dom_pressure_cpu_full_ns[(offsetof(struct domstat_dom_pressure, cpu_full_ns) == 24) ? 1 : -1];
typedef char domstat_check_dom_pressure_memory_some_ns[(offsetof(struct domstat_dom_pressure, memory_some_ns) == 32) ? 1 : -1];
typedef char domstat_check_dom_pressure_memory_full_ns[(offsetof(struct domstat_dom_pressure, memory_full_ns) == 40) ? 1 : -1];
typedef char domstat_check_dom_pressure_io_some_ns[(offsetof(struct domstat_dom_pressure, io_some_ns) == 48) ? 1 : -1];
typedef char domstat_check_dom_pressure_io_full_ns[(offsetof(struct domstat_dom_pressure, io_full_ns) == 56) ? 1 : -1];
typedef char domstat_check_dom_pressure[(sizeof(struct domstat_dom_pressure) == 64) ? 1 : -1];

/* What the guest's balloon driver reports beyond `memory`. Written by the domain's management thread when the guest has reported. The names are those of virtio's balloon statistics.
 * Since revision 5. */
#define DOMSTAT_DOM_BALLOON_BIT 7
struct domstat_dom_balloon {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t disk_caches_bytes; /* instant, bytes */
    uint64_t hugetlb_pgalloc; /* cumulative, events */
    uint64_t hugetlb_pgfail; /* cumulative, events */
    uint64_t oom_kills; /* cumulative, events */
    uint64_t alloc_stalls; /* cumulative, events */
    uint64_t async_scan; /* cumulative, events */
    uint64_t direct_scan; /* cumulative, events */
    uint64_t async_reclaim; /* cumulative, events */
    uint64_t direct_reclaim; /* cumulative, events */
    uint64_t last_update_ns; /* instant, ns */
};
typedef char domstat_check_dom_balloon_disk_caches_bytes[(offsetof(struct domstat_dom_balloon, disk_caches_bytes) == 16) ? 1 : -1];
typedef char domstat_check_dom_balloon_hugetlb_pgalloc[(offsetof(struct domstat_dom_balloon, hugetlb_pgalloc) == 24) ? 1 : -1];
typedef char domstat_check_dom_balloon_hugetlb_pgfail[(offsetof(struct domstat_dom_balloon, hugetlb_pgfail) == 32) ? 1 : -1];
typedef char domstat_check_dom_balloon_oom_kills[(offsetof(struct domstat_dom_balloon, oom_kills) == 40) ? 1 : -1];
typedef char domstat_check_dom_balloon_alloc_stalls[(offsetof(struct domstat_dom_balloon, alloc_stalls) == 48) ? 1 : -1];
typedef char domstat_check_dom_balloon_async_scan[(offsetof(struct domstat_dom_balloon, async_scan) == 56) ? 1 : -1];
typedef char domstat_check_dom_balloon_direct_scan[(offsetof(struct domstat_dom_balloon, direct_scan) == 64) ? 1 : -1];
typedef char domstat_check_dom_balloon_async_reclaim[(offsetof(struct domstat_dom_balloon, async_reclaim) == 72) ? 1 : -1];
typedef char domstat_check_dom_balloon_direct_reclaim[(offsetof(struct domstat_dom_balloon, direct_reclaim) == 80) ? 1 : -1];
typedef char domstat_check_dom_balloon_last_update_ns[(offsetof(struct domstat_dom_balloon, last_update_ns) == 88) ? 1 : -1];
typedef char domstat_check_dom_balloon[(sizeof(struct domstat_dom_balloon) == 96) ? 1 : -1];

/* The domain's last migration away from this host, running or ended. Written by the domain's management thread on its events, and at its own interval between them. The names are those of QEMU's query-migrate.
 * Since revision 5. */
#define DOMSTAT_DOM_MIGRATION_BIT 8
#define DOMSTAT_DOM_MIGRATION_STATE_NONE 0u
#define DOMSTAT_DOM_MIGRATION_STATE_SETUP 1u
#define DOMSTAT_DOM_MIGRATION_STATE_ACTIVE 2u
#define DOMSTAT_DOM_MIGRATION_STATE_PAUSED 3u
#define DOMSTAT_DOM_MIGRATION_STATE_POSTCOPY 4u
#define DOMSTAT_DOM_MIGRATION_STATE_DEVICE 5u
#define DOMSTAT_DOM_MIGRATION_STATE_ENDING 6u
#define DOMSTAT_DOM_MIGRATION_STATE_COMPLETED 7u
#define DOMSTAT_DOM_MIGRATION_STATE_FAILED 8u
#define DOMSTAT_DOM_MIGRATION_STATE_CANCELED 9u
struct domstat_dom_migration {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t state; /* state, -: none setup active paused postcopy device ending completed failed canceled */
    uint64_t started_ns; /* instant, ns */
    uint64_t total_ns; /* instant, ns */
    uint64_t setup_ns; /* instant, ns */
    uint64_t downtime_ns; /* instant, ns */
    uint64_t transferred_bytes; /* instant, bytes */
    uint64_t remaining_bytes; /* instant, bytes */
    uint64_t dirty_bytes; /* instant, bytes */
    uint64_t iterations; /* instant, events */
    uint64_t migrations; /* cumulative, events */
};
typedef char domstat_check_dom_migration_state[(offsetof(struct domstat_dom_migration, state) == 16) ? 1 : -1];
typedef char domstat_check_dom_migration_started_ns[(offsetof(struct domstat_dom_migration, started_ns) == 24) ? 1 : -1];
typedef char domstat_check_dom_migration_total_ns[(offsetof(struct domstat_dom_migration, total_ns) == 32) ? 1 : -1];
typedef char domstat_check_dom_migration_setup_ns[(offsetof(struct domstat_dom_migration, setup_ns) == 40) ? 1 : -1];
typedef char domstat_check_dom_migration_downtime_ns[(offsetof(struct domstat_dom_migration, downtime_ns) == 48) ? 1 : -1];
typedef char domstat_check_dom_migration_transferred_bytes[(offsetof(struct domstat_dom_migration, transferred_bytes) == 56) ? 1 : -1];
typedef char domstat_check_dom_migration_remaining_bytes[(offsetof(struct domstat_dom_migration, remaining_bytes) == 64) ? 1 : -1];
typedef char domstat_check_dom_migration_dirty_bytes[(offsetof(struct domstat_dom_migration, dirty_bytes) == 72) ? 1 : -1];
typedef char domstat_check_dom_migration_iterations[(offsetof(struct domstat_dom_migration, iterations) == 80) ? 1 : -1];
typedef char domstat_check_dom_migration_migrations[(offsetof(struct domstat_dom_migration, migrations) == 88) ? 1 : -1];
typedef char domstat_check_dom_migration[(sizeof(struct domstat_dom_migration) == 96) ? 1 : -1];

/* Whether counters go on from what an earlier reader saw. Written by the creator of the region and whenever their continuity is broken.
 * Since revision 5. */
#define DOMSTAT_DOM_LINEAGE_BIT 9
#define DOMSTAT_DOM_LINEAGE_CAUSE_CREATED 0u
#define DOMSTAT_DOM_LINEAGE_CAUSE_RESTORED 1u
#define DOMSTAT_DOM_LINEAGE_CAUSE_REVERTED 2u
#define DOMSTAT_DOM_LINEAGE_CAUSE_MIGRATED 3u
struct domstat_dom_lineage {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t session; /* instant, - */
    uint64_t previous_incarnation; /* id, - */
    uint64_t arrivals; /* cumulative, events */
    uint64_t cause; /* state, -: created restored reverted migrated */
};
typedef char domstat_check_dom_lineage_session[(offsetof(struct domstat_dom_lineage, session) == 16) ? 1 : -1];
typedef char domstat_check_dom_lineage_previous_incarnation[(offsetof(struct domstat_dom_lineage, previous_incarnation) == 24) ? 1 : -1];
typedef char domstat_check_dom_lineage_arrivals[(offsetof(struct domstat_dom_lineage, arrivals) == 32) ? 1 : -1];
typedef char domstat_check_dom_lineage_cause[(offsetof(struct domstat_dom_lineage, cause) == 40) ? 1 : -1];
typedef char domstat_check_dom_lineage[(sizeof(struct domstat_dom_lineage) == 48) ? 1 : -1];

/* The dom record. Since revision 1. */
struct domstat_dom {
    struct domstat_dom_header header;
    struct domstat_dom_identity identity; /* since 1 */
    struct domstat_dom_memory memory; /* since 1 */
    struct domstat_dom_cpu cpu; /* since 2 */
    struct domstat_dom_status status; /* since 5 */
    struct domstat_dom_threads threads; /* since 5 */
    struct domstat_dom_limits limits; /* since 5 */
    struct domstat_dom_pressure pressure; /* since 5 */
    struct domstat_dom_balloon balloon; /* since 5 */
    struct domstat_dom_migration migration; /* since 5 */
    struct domstat_dom_lineage lineage; /* since 5 */
};
typedef char domstat_check_record_dom_identity[(offsetof(struct domstat_dom, identity) == 128) ? 1 : -1];
typedef char domstat_check_record_dom_memory[(offsetof(struct domstat_dom, memory) == 304) ? 1 : -1];
typedef char domstat_check_record_dom_cpu[(offsetof(struct domstat_dom, cpu) == 400) ? 1 : -1];
typedef char domstat_check_record_dom_status[(offsetof(struct domstat_dom, status) == 448) ? 1 : -1];
typedef char domstat_check_record_dom_threads[(offsetof(struct domstat_dom, threads) == 496) ? 1 : -1];
typedef char domstat_check_record_dom_limits[(offsetof(struct domstat_dom, limits) == 592) ? 1 : -1];
typedef char domstat_check_record_dom_pressure[(offsetof(struct domstat_dom, pressure) == 688) ? 1 : -1];
typedef char domstat_check_record_dom_balloon[(offsetof(struct domstat_dom, balloon) == 752) ? 1 : -1];
typedef char domstat_check_record_dom_migration[(offsetof(struct domstat_dom, migration) == 848) ? 1 : -1];
typedef char domstat_check_record_dom_lineage[(offsetof(struct domstat_dom, lineage) == 944) ? 1 : -1];
typedef char domstat_check_record_dom[(sizeof(struct domstat_dom) == 992) ? 1 : -1];

/* What the vCPU is doing and where its time went, as Xen's VCPUOP_get_runstate_info reports it. Written by whoever schedules or runs the vCPU, when the state changes. The four times are as of `updated_ns`; from then on time passes in `state`.
 * Since revision 1. */
#define DOMSTAT_VCPU_RUNSTATE_BIT 0
#define DOMSTAT_VCPU_RUNSTATE_STATE_RUNNING 0u
#define DOMSTAT_VCPU_RUNSTATE_STATE_RUNNABLE 1u
#define DOMSTAT_VCPU_RUNSTATE_STATE_BLOCKED 2u
#define DOMSTAT_VCPU_RUNSTATE_STATE_OFFLINE 3u
struct domstat_vcpu_runstate {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t state; /* state, -: running runnable blocked offline */
    uint64_t state_entry_ns; /* instant, ns */
    uint64_t running_ns; /* cumulative, ns */
    uint64_t runnable_ns; /* cumulative, ns */
    uint64_t blocked_ns; /* cumulative, ns */
    uint64_t offline_ns; /* cumulative, ns */
};
typedef char domstat_check_vcpu_runstate_state[(offsetof(struct domstat_vcpu_runstate, state) == 16) ? 1 : -1];
typedef char domstat_check_vcpu_runstate_state_entry_ns[(offsetof(struct domstat_vcpu_runstate, state_entry_ns) == 24) ? 1 : -1];
typedef char domstat_check_vcpu_runstate_running_ns[(offsetof(struct domstat_vcpu_runstate, running_ns) == 32) ? 1 : -1];
typedef char domstat_check_vcpu_runstate_runnable_ns[(offsetof(struct domstat_vcpu_runstate, runnable_ns) == 40) ? 1 : -1];
typedef char domstat_check_vcpu_runstate_blocked_ns[(offsetof(struct domstat_vcpu_runstate, blocked_ns) == 48) ? 1 : -1];
typedef char domstat_check_vcpu_runstate_offline_ns[(offsetof(struct domstat_vcpu_runstate, offline_ns) == 56) ? 1 : -1];
typedef char domstat_check_vcpu_runstate[(sizeof(struct domstat_vcpu_runstate) == 64) ? 1 : -1];

/* How the host's scheduler treated the vCPU's thread. Written by whoever reads the scheduler's books. The names are those of libvirt's vcpu statistics; the numbers are those of /proc/PID/task/TID/schedstat.
 * Since revision 2. */
#define DOMSTAT_VCPU_SCHED_BIT 1
struct domstat_vcpu_sched {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t time_ns; /* cumulative, ns */
    uint64_t wait_ns; /* cumulative, ns */
    uint64_t delay_ns; /* cumulative, ns */
    uint64_t timeslices; /* cumulative, events */
};
typedef char domstat_check_vcpu_sched_time_ns[(offsetof(struct domstat_vcpu_sched, time_ns) == 16) ? 1 : -1];
typedef char domstat_check_vcpu_sched_wait_ns[(offsetof(struct domstat_vcpu_sched, wait_ns) == 24) ? 1 : -1];
typedef char domstat_check_vcpu_sched_delay_ns[(offsetof(struct domstat_vcpu_sched, delay_ns) == 32) ? 1 : -1];
typedef char domstat_check_vcpu_sched_timeslices[(offsetof(struct domstat_vcpu_sched, timeslices) == 40) ? 1 : -1];
typedef char domstat_check_vcpu_sched[(sizeof(struct domstat_vcpu_sched) == 48) ? 1 : -1];

/* Why the vCPU left the domain's code. Written by the thread that runs the vCPU. The names are those of KVM's binary statistics.
 * Since revision 2. */
#define DOMSTAT_VCPU_EXITS_BIT 2
struct domstat_vcpu_exits {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t exits; /* cumulative, events */
    uint64_t io_exits; /* cumulative, events */
    uint64_t mmio_exits; /* cumulative, events */
    uint64_t halt_exits; /* cumulative, events */
    uint64_t irq_exits; /* cumulative, events */
    uint64_t signal_exits; /* cumulative, events */
    uint64_t hypercalls; /* cumulative, events */
    uint64_t insn_emulation; /* cumulative, events */
};
typedef char domstat_check_vcpu_exits_exits[(offsetof(struct domstat_vcpu_exits, exits) == 16) ? 1 : -1];
typedef char domstat_check_vcpu_exits_io_exits[(offsetof(struct domstat_vcpu_exits, io_exits) == 24) ? 1 : -1];
typedef char domstat_check_vcpu_exits_mmio_exits[(offsetof(struct domstat_vcpu_exits, mmio_exits) == 32) ? 1 : -1];
typedef char domstat_check_vcpu_exits_halt_exits[(offsetof(struct domstat_vcpu_exits, halt_exits) == 40) ? 1 : -1];
typedef char domstat_check_vcpu_exits_irq_exits[(offsetof(struct domstat_vcpu_exits, irq_exits) == 48) ? 1 : -1];
typedef char domstat_check_vcpu_exits_signal_exits[(offsetof(struct domstat_vcpu_exits, signal_exits) == 56) ? 1 : -1];
typedef char domstat_check_vcpu_exits_hypercalls[(offsetof(struct domstat_vcpu_exits, hypercalls) == 64) ? 1 : -1];
typedef char domstat_check_vcpu_exits_insn_emulation[(offsetof(struct domstat_vcpu_exits, insn_emulation) == 72) ? 1 : -1];
typedef char domstat_check_vcpu_exits[(sizeof(struct domstat_vcpu_exits) == 80) ? 1 : -1];

/* The second copy of `runstate`.
 * Since revision 4. */
#define DOMSTAT_VCPU_RUNSTATE_TWIN_BIT 3
#define DOMSTAT_VCPU_RUNSTATE_TWIN_TWIN_OF 0
#define DOMSTAT_VCPU_RUNSTATE_TWIN_STATE_RUNNING 0u
#define DOMSTAT_VCPU_RUNSTATE_TWIN_STATE_RUNNABLE 1u
#define DOMSTAT_VCPU_RUNSTATE_TWIN_STATE_BLOCKED 2u
#define DOMSTAT_VCPU_RUNSTATE_TWIN_STATE_OFFLINE 3u
struct domstat_vcpu_runstate_twin {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t state; /* state, -: running runnable blocked offline */
    uint64_t state_entry_ns; /* instant, ns */
    uint64_t running_ns; /* cumulative, ns */
    uint64_t runnable_ns; /* cumulative, ns */
    uint64_t blocked_ns; /* cumulative, ns */
    uint64_t offline_ns; /* cumulative, ns */
};
typedef char domstat_check_vcpu_runstate_twin_state[(offsetof(struct domstat_vcpu_runstate_twin, state) == 16) ? 1 : -1];
typedef char domstat_check_vcpu_runstate_twin_state_entry_ns[(offsetof(struct domstat_vcpu_runstate_twin, state_entry_ns) == 24) ? 1 : -1];
typedef char domstat_check_vcpu_runstate_twin_running_ns[(offsetof(struct domstat_vcpu_runstate_twin, running_ns) == 32) ? 1 : -1];
typedef char domstat_check_vcpu_runstate_twin_runnable_ns[(offsetof(struct domstat_vcpu_runstate_twin, runnable_ns) == 40) ? 1 : -1];
typedef char domstat_check_vcpu_runstate_twin_blocked_ns[(offsetof(struct domstat_vcpu_runstate_twin, blocked_ns) == 48) ? 1 : -1];
typedef char domstat_check_vcpu_runstate_twin_offline_ns[(offsetof(struct domstat_vcpu_runstate_twin, offline_ns) == 56) ? 1 : -1];
typedef char domstat_check_vcpu_runstate_twin[(sizeof(struct domstat_vcpu_runstate_twin) == 64) ? 1 : -1];

/* The second copy of `sched`.
 * Since revision 4. */
#define DOMSTAT_VCPU_SCHED_TWIN_BIT 4
#define DOMSTAT_VCPU_SCHED_TWIN_TWIN_OF 1
struct domstat_vcpu_sched_twin {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t time_ns; /* cumulative, ns */
    uint64_t wait_ns; /* cumulative, ns */
    uint64_t delay_ns; /* cumulative, ns */
    uint64_t timeslices; /* cumulative, events */
};
typedef char domstat_check_vcpu_sched_twin_time_ns[(offsetof(struct domstat_vcpu_sched_twin, time_ns) == 16) ? 1 : -1];
typedef char domstat_check_vcpu_sched_twin_wait_ns[(offsetof(struct domstat_vcpu_sched_twin, wait_ns) == 24) ? 1 : -1];
typedef char domstat_check_vcpu_sched_twin_delay_ns[(offsetof(struct domstat_vcpu_sched_twin, delay_ns) == 32) ? 1 : -1];
typedef char domstat_check_vcpu_sched_twin_timeslices[(offsetof(struct domstat_vcpu_sched_twin, timeslices) == 40) ? 1 : -1];
typedef char domstat_check_vcpu_sched_twin[(sizeof(struct domstat_vcpu_sched_twin) == 48) ? 1 : -1];

/* The vcpu record. Since revision 1. */
struct domstat_vcpu {
    struct domstat_record_header header;
    struct domstat_vcpu_runstate runstate; /* since 1 */
    struct domstat_vcpu_sched sched; /* since 2 */
    struct domstat_vcpu_exits exits; /* since 2 */
    struct domstat_vcpu_runstate_twin runstate_twin; /* since 4 */
    struct domstat_vcpu_sched_twin sched_twin; /* since 4 */
};
typedef char domstat_check_record_vcpu_runstate[(offsetof(struct domstat_vcpu, runstate) == 32) ? 1 : -1];
typedef char domstat_check_record_vcpu_sched[(offsetof(struct domstat_vcpu, sched) == 96) ? 1 : -1];
typedef char domstat_check_record_vcpu_exits[(offsetof(struct domstat_vcpu, exits) == 144) ? 1 : -1];
typedef char domstat_check_record_vcpu_runstate_twin[(offsetof(struct domstat_vcpu, runstate_twin) == 224) ? 1 : -1];
typedef char domstat_check_record_vcpu_sched_twin[(offsetof(struct domstat_vcpu, sched_twin) == 288) ? 1 : -1];
typedef char domstat_check_record_vcpu[(sizeof(struct domstat_vcpu) == 336) ? 1 : -1];

/* Which device the slot serves. Written by the domain's management thread when the device is attached; constant until the slot is given to another (`generation`).
 * Since revision 2. */
#define DOMSTAT_BLK_IDENTITY_BIT 0
struct domstat_blk_identity {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    char name[128]; /* text, - */
};
typedef char domstat_check_blk_identity_name[(offsetof(struct domstat_blk_identity, name) == 16) ? 1 : -1];
typedef char domstat_check_blk_identity[(sizeof(struct domstat_blk_identity) == 144) ? 1 : -1];

/* What was read and written. Written by whoever serves the device. The first five fields are those of libvirt's virDomainBlockStatsStruct as it began, in its order.
 * Since revision 2. */
#define DOMSTAT_BLK_IO_BIT 1
struct domstat_blk_io {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t rd_req; /* cumulative, events */
    uint64_t rd_bytes; /* cumulative, bytes */
    uint64_t wr_req; /* cumulative, events */
    uint64_t wr_bytes; /* cumulative, bytes */
    uint64_t errs; /* cumulative, events */
    uint64_t in_flight; /* instant, - */
};
typedef char domstat_check_blk_io_rd_req[(offsetof(struct domstat_blk_io, rd_req) == 16) ? 1 : -1];
typedef char domstat_check_blk_io_rd_bytes[(offsetof(struct domstat_blk_io, rd_bytes) == 24) ? 1 : -1];
typedef char domstat_check_blk_io_wr_req[(offsetof(struct domstat_blk_io, wr_req) == 32) ? 1 : -1];
typedef char domstat_check_blk_io_wr_bytes[(offsetof(struct domstat_blk_io, wr_bytes) == 40) ? 1 : -1];
typedef char domstat_check_blk_io_errs[(offsetof(struct domstat_blk_io, errs) == 48) ? 1 : -1];
typedef char domstat_check_blk_io_in_flight[(offsetof(struct domstat_blk_io, in_flight) == 56) ? 1 : -1];
typedef char domstat_check_blk_io[(sizeof(struct domstat_blk_io) == 64) ? 1 : -1];

/* How long requests took. Written by whoever serves the device. The fields are those that libvirt's block statistics gained after the first five, in their order.
 * Since revision 3. */
#define DOMSTAT_BLK_IO_TIMES_BIT 2
struct domstat_blk_io_times {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t rd_total_ns; /* cumulative, ns */
    uint64_t wr_total_ns; /* cumulative, ns */
    uint64_t flush_req; /* cumulative, events */
    uint64_t flush_total_ns; /* cumulative, ns */
};
typedef char domstat_check_blk_io_times_rd_total_ns[(offsetof(struct domstat_blk_io_times, rd_total_ns) == 16) ? 1 : -1];
typedef char domstat_check_blk_io_times_wr_total_ns[(offsetof(struct domstat_blk_io_times, wr_total_ns) == 24) ? 1 : -1];
typedef char domstat_check_blk_io_times_flush_req[(offsetof(struct domstat_blk_io_times, flush_req) == 32) ? 1 : -1];
typedef char domstat_check_blk_io_times_flush_total_ns[(offsetof(struct domstat_blk_io_times, flush_total_ns) == 40) ? 1 : -1];
typedef char domstat_check_blk_io_times[(sizeof(struct domstat_blk_io_times) == 48) ? 1 : -1];

/* How far the device's storage is filled, and the write threshold. Written by the domain's management thread, at its own interval and when the threshold is crossed.
 * Since revision 3. */
#define DOMSTAT_BLK_EXTENT_BIT 3
struct domstat_blk_extent {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t allocation_bytes; /* instant, bytes */
    uint64_t capacity_bytes; /* instant, bytes */
    uint64_t physical_bytes; /* instant, bytes */
    uint64_t threshold_bytes; /* instant, bytes */
    uint64_t threshold_events; /* cumulative, events */
    uint64_t threshold_excess_bytes; /* instant, bytes */
};
typedef char domstat_check_blk_extent_allocation_bytes[(offsetof(struct domstat_blk_extent, allocation_bytes) == 16) ? 1 : -1];
typedef char domstat_check_blk_extent_capacity_bytes[(offsetof(struct domstat_blk_extent, capacity_bytes) == 24) ? 1 : -1];
typedef char domstat_check_blk_extent_physical_bytes[(offsetof(struct domstat_blk_extent, physical_bytes) == 32) ? 1 : -1];
typedef char domstat_check_blk_extent_threshold_bytes[(offsetof(struct domstat_blk_extent, threshold_bytes) == 40) ? 1 : -1];
typedef char domstat_check_blk_extent_threshold_events[(offsetof(struct domstat_blk_extent, threshold_events) == 48) ? 1 : -1];
typedef char domstat_check_blk_extent_threshold_excess_bytes[(offsetof(struct domstat_blk_extent, threshold_excess_bytes) == 56) ? 1 : -1];
typedef char domstat_check_blk_extent[(sizeof(struct domstat_blk_extent) == 64) ? 1 : -1];

/* What only Xen's block backend counts. Written by whoever reads /sys/bus/xen-backend/devices/vbd-DOMID-DEVID/statistics.
 * Since revision 3. */
#define DOMSTAT_BLK_VBD_BIT 4
struct domstat_blk_vbd {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t oo_req; /* cumulative, events */
    uint64_t ds_req; /* cumulative, events */
    uint64_t f_req; /* cumulative, events */
    uint64_t devid; /* id, - */
};
typedef char domstat_check_blk_vbd_oo_req[(offsetof(struct domstat_blk_vbd, oo_req) == 16) ? 1 : -1];
typedef char domstat_check_blk_vbd_ds_req[(offsetof(struct domstat_blk_vbd, ds_req) == 24) ? 1 : -1];
typedef char domstat_check_blk_vbd_f_req[(offsetof(struct domstat_blk_vbd, f_req) == 32) ? 1 : -1];
typedef char domstat_check_blk_vbd_devid[(offsetof(struct domstat_blk_vbd, devid) == 40) ? 1 : -1];
typedef char domstat_check_blk_vbd[(sizeof(struct domstat_blk_vbd) == 48) ? 1 : -1];

/* The long-running operation on the device, if there is one. Written by the domain's management thread on every event of the job, and at its own interval between them. It stays as it ended until the next one begins.
 * Since revision 3. */
#define DOMSTAT_BLK_JOB_BIT 5
#define DOMSTAT_BLK_JOB_KIND_NONE 0u
#define DOMSTAT_BLK_JOB_KIND_PULL 1u
#define DOMSTAT_BLK_JOB_KIND_COPY 2u
#define DOMSTAT_BLK_JOB_KIND_COMMIT 3u
#define DOMSTAT_BLK_JOB_KIND_ACTIVE_COMMIT 4u
#define DOMSTAT_BLK_JOB_KIND_BACKUP 5u
#define DOMSTAT_BLK_JOB_KIND_OTHER 6u
#define DOMSTAT_BLK_JOB_STATE_NONE 0u
#define DOMSTAT_BLK_JOB_STATE_RUNNING 1u
#define DOMSTAT_BLK_JOB_STATE_PAUSED 2u
#define DOMSTAT_BLK_JOB_STATE_READY 3u
#define DOMSTAT_BLK_JOB_STATE_ENDING 4u
#define DOMSTAT_BLK_JOB_STATE_COMPLETED 5u
#define DOMSTAT_BLK_JOB_STATE_FAILED 6u
#define DOMSTAT_BLK_JOB_STATE_CANCELED 7u
struct domstat_blk_job {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t kind; /* state, -: none pull copy commit active_commit backup other */
    uint64_t state; /* state, -: none running paused ready ending completed failed canceled */
    uint64_t cur_bytes; /* instant, bytes */
    uint64_t end_bytes; /* instant, bytes */
    uint64_t limit_bytes; /* instant, bytes */
    uint64_t ended; /* cumulative, events */
};
typedef char domstat_check_blk_job_kind[(offsetof(struct domstat_blk_job, kind) == 16) ? 1 : -1];
typedef char domstat_check_blk_job_state[(offsetof(struct domstat_blk_job, state) == 24) ? 1 : -1];
typedef char domstat_check_blk_job_cur_bytes[(offsetof(struct domstat_blk_job, cur_bytes) == 32) ? 1 : -1];
typedef char domstat_check_blk_job_end_bytes[(offsetof(struct domstat_blk_job, end_bytes) == 40) ? 1 : -1];
typedef char domstat_check_blk_job_limit_bytes[(offsetof(struct domstat_blk_job, limit_bytes) == 48) ? 1 : -1];
typedef char domstat_check_blk_job_ended[(offsetof(struct domstat_blk_job, ended) == 56) ? 1 : -1];
typedef char domstat_check_blk_job[(sizeof(struct domstat_blk_job) == 64) ? 1 : -1];

/* The second copy of `io`.
 * Since revision 4. */
#define DOMSTAT_BLK_IO_TWIN_BIT 6
#define DOMSTAT_BLK_IO_TWIN_TWIN_OF 1
struct domstat_blk_io_twin {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t rd_req; /* cumulative, events */
    uint64_t rd_bytes; /* cumulative, bytes */
    uint64_t wr_req; /* cumulative, events */
    uint64_t wr_bytes; /* cumulative, bytes */
    uint64_t errs; /* cumulative, events */
    uint64_t in_flight; /* instant, - */
};
typedef char domstat_check_blk_io_twin_rd_req[(offsetof(struct domstat_blk_io_twin, rd_req) == 16) ? 1 : -1];
typedef char domstat_check_blk_io_twin_rd_bytes[(offsetof(struct domstat_blk_io_twin, rd_bytes) == 24) ? 1 : -1];
typedef char domstat_check_blk_io_twin_wr_req[(offsetof(struct domstat_blk_io_twin, wr_req) == 32) ? 1 : -1];
typedef char domstat_check_blk_io_twin_wr_bytes[(offsetof(struct domstat_blk_io_twin, wr_bytes) == 40) ? 1 : -1];
typedef char domstat_check_blk_io_twin_errs[(offsetof(struct domstat_blk_io_twin, errs) == 48) ? 1 : -1];
typedef char domstat_check_blk_io_twin_in_flight[(offsetof(struct domstat_blk_io_twin, in_flight) == 56) ? 1 : -1];
typedef char domstat_check_blk_io_twin[(sizeof(struct domstat_blk_io_twin) == 64) ? 1 : -1];

/* How full the device's queue was. Written by whoever serves the device, when a request begins or ends. As of `updated_ns`; from then on the number in flight stands still, and both times grow as it says.
 * Since revision 5. */
#define DOMSTAT_BLK_QUEUE_BIT 7
struct domstat_blk_queue {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t busy_ns; /* cumulative, ns */
    uint64_t queued_ns; /* cumulative, ns */
    uint64_t submitted; /* cumulative, events */
    uint64_t completed; /* cumulative, events */
};
typedef char domstat_check_blk_queue_busy_ns[(offsetof(struct domstat_blk_queue, busy_ns) == 16) ? 1 : -1];
typedef char domstat_check_blk_queue_queued_ns[(offsetof(struct domstat_blk_queue, queued_ns) == 24) ? 1 : -1];
typedef char domstat_check_blk_queue_submitted[(offsetof(struct domstat_blk_queue, submitted) == 32) ? 1 : -1];
typedef char domstat_check_blk_queue_completed[(offsetof(struct domstat_blk_queue, completed) == 40) ? 1 : -1];
typedef char domstat_check_blk_queue[(sizeof(struct domstat_blk_queue) == 48) ? 1 : -1];

/* What was discarded. Written by whoever serves the device.
 * Since revision 5. */
#define DOMSTAT_BLK_DISCARDS_BIT 8
struct domstat_blk_discards {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t dis_req; /* cumulative, events */
    uint64_t dis_bytes; /* cumulative, bytes */
    uint64_t dis_total_ns; /* cumulative, ns */
    uint64_t dis_merged; /* cumulative, events */
};
typedef char domstat_check_blk_discards_dis_req[(offsetof(struct domstat_blk_discards, dis_req) == 16) ? 1 : -1];
typedef char domstat_check_blk_discards_dis_bytes[(offsetof(struct domstat_blk_discards, dis_bytes) == 24) ? 1 : -1];
typedef char domstat_check_blk_discards_dis_total_ns[(offsetof(struct domstat_blk_discards, dis_total_ns) == 32) ? 1 : -1];
typedef char domstat_check_blk_discards_dis_merged[(offsetof(struct domstat_blk_discards, dis_merged) == 40) ? 1 : -1];
typedef char domstat_check_blk_discards[(sizeof(struct domstat_blk_discards) == 48) ? 1 : -1];

/* Requests that did not succeed, by operation. Written by whoever serves the device. Failed requests reached the storage, invalid ones were refused before it.
 * Since revision 5. */
#define DOMSTAT_BLK_FAILURES_BIT 9
struct domstat_blk_failures {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t rd_failed; /* cumulative, events */
    uint64_t wr_failed; /* cumulative, events */
    uint64_t flush_failed; /* cumulative, events */
    uint64_t dis_failed; /* cumulative, events */
    uint64_t rd_invalid; /* cumulative, events */
    uint64_t wr_invalid; /* cumulative, events */
    uint64_t flush_invalid; /* cumulative, events */
    uint64_t dis_invalid; /* cumulative, events */
};
typedef char domstat_check_blk_failures_rd_failed[(offsetof(struct domstat_blk_failures, rd_failed) == 16) ? 1 : -1];
typedef char domstat_check_blk_failures_wr_failed[(offsetof(struct domstat_blk_failures, wr_failed) == 24) ? 1 : -1];
typedef char domstat_check_blk_failures_flush_failed[(offsetof(struct domstat_blk_failures, flush_failed) == 32) ? 1 : -1];
typedef char domstat_check_blk_failures_dis_failed[(offsetof(struct domstat_blk_failures, dis_failed) == 40) ? 1 : -1];
typedef char domstat_check_blk_failures_rd_invalid[(offsetof(struct domstat_blk_failures, rd_invalid) == 48) ? 1 : -1];
typedef char domstat_check_blk_failures_wr_invalid[(offsetof(struct domstat_blk_failures, wr_invalid) == 56) ? 1 : -1];
typedef char domstat_check_blk_failures_flush_invalid[(offsetof(struct domstat_blk_failures, flush_invalid) == 64) ? 1 : -1];
typedef char domstat_check_blk_failures_dis_invalid[(offsetof(struct domstat_blk_failures, dis_invalid) == 72) ? 1 : -1];
typedef char domstat_check_blk_failures[(sizeof(struct domstat_blk_failures) == 80) ? 1 : -1];

/* What limits the device stands under, and what they cost it. Written by the domain's management thread when they change, or by whoever enforces them. 0 is no limit.
 * Since revision 5. */
#define DOMSTAT_BLK_LIMITS_BIT 10
struct domstat_blk_limits {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t limit_req; /* instant, events */
    uint64_t rd_limit_req; /* instant, events */
    uint64_t wr_limit_req; /* instant, events */
    uint64_t limit_bytes; /* instant, bytes */
    uint64_t rd_limit_bytes; /* instant, bytes */
    uint64_t wr_limit_bytes; /* instant, bytes */
    uint64_t throttled_req; /* cumulative, events */
    uint64_t throttled_ns; /* cumulative, ns */
};
typedef char domstat_check_blk_limits_limit_req[(offsetof(struct domstat_blk_limits, limit_req) == 16) ? 1 : -1];
typedef char domstat_check_blk_limits_rd_limit_req[(offsetof(struct domstat_blk_limits, rd_limit_req) == 24) ? 1 : -1];
typedef char domstat_check_blk_limits_wr_limit_req[(offsetof(struct domstat_blk_limits, wr_limit_req) == 32) ? 1 : -1];
typedef char domstat_check_blk_limits_limit_bytes[(offsetof(struct domstat_blk_limits, limit_bytes) == 40) ? 1 : -1];
typedef char domstat_check_blk_limits_rd_limit_bytes[(offsetof(struct domstat_blk_limits, rd_limit_bytes) == 48) ? 1 : -1];
typedef char domstat_check_blk_limits_wr_limit_bytes[(offsetof(struct domstat_blk_limits, wr_limit_bytes) == 56) ? 1 : -1];
typedef char domstat_check_blk_limits_throttled_req[(offsetof(struct domstat_blk_limits, throttled_req) == 64) ? 1 : -1];
typedef char domstat_check_blk_limits_throttled_ns[(offsetof(struct domstat_blk_limits, throttled_ns) == 72) ? 1 : -1];
typedef char domstat_check_blk_limits[(sizeof(struct domstat_blk_limits) == 80) ? 1 : -1];

/* The blk record. Since revision 2. */
struct domstat_blk {
    struct domstat_record_header header;
    struct domstat_blk_identity identity; /* since 2 */
    struct domstat_blk_io io; /* since 2 */
    struct domstat_blk_io_times io_times; /* since 3 */
    struct domstat_blk_extent extent; /* since 3 */
    struct domstat_blk_vbd vbd; /* since 3 */
    struct domstat_blk_job job; /* since 3 */
    struct domstat_blk_io_twin io_twin; /* since 4 */
    struct domstat_blk_queue queue; /* since 5 */
    struct domstat_blk_discards discards; /* since 5 */
    struct domstat_blk_failures failures; /* since 5 */
    struct domstat_blk_limits limits; /* since 5 */
};
typedef char domstat_check_record_blk_identity[(offsetof(struct domstat_blk, identity) == 32) ? 1 : -1];
typedef char domstat_check_record_blk_io[(offsetof(struct domstat_blk, io) == 176) ? 1 : -1];
typedef char domstat_check_record_blk_io_times[(offsetof(struct domstat_blk, io_times) == 240) ? 1 : -1];
typedef char domstat_check_record_blk_extent[(offsetof(struct domstat_blk, extent) == 288) ? 1 : -1];
typedef char domstat_check_record_blk_vbd[(offsetof(struct domstat_blk, vbd) == 352) ? 1 : -1];
typedef char domstat_check_record_blk_job[(offsetof(struct domstat_blk, job) == 400) ? 1 : -1];
typedef char domstat_check_record_blk_io_twin[(offsetof(struct domstat_blk, io_twin) == 464) ? 1 : -1];
typedef char domstat_check_record_blk_queue[(offsetof(struct domstat_blk, queue) == 528) ? 1 : -1];
typedef char domstat_check_record_blk_discards[(offsetof(struct domstat_blk, discards) == 576) ? 1 : -1];
typedef char domstat_check_record_blk_failures[(offsetof(struct domstat_blk, failures) == 624) ? 1 : -1];
typedef char domstat_check_record_blk_limits[(offsetof(struct domstat_blk, limits) == 704) ? 1 : -1];
typedef char domstat_check_record_blk[(sizeof(struct domstat_blk) == 784) ? 1 : -1];

/* Which interface the slot serves. Written by the domain's management thread when the interface is attached; constant until the slot is given to another (`generation`).
 * Since revision 4. */
#define DOMSTAT_NET_IDENTITY_BIT 0
struct domstat_net_identity {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    char name[128]; /* text, - */
};
typedef char domstat_check_net_identity_name[(offsetof(struct domstat_net_identity, name) == 16) ? 1 : -1];
typedef char domstat_check_net_identity[(sizeof(struct domstat_net_identity) == 144) ? 1 : -1];

/* What was received and sent, as the domain sees it. Written by whoever serves the interface.
 * Since revision 4. */
#define DOMSTAT_NET_IO_BIT 1
struct domstat_net_io {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t rx_bytes; /* cumulative, bytes */
    uint64_t rx_packets; /* cumulative, events */
    uint64_t rx_errs; /* cumulative, events */
    uint64_t rx_drop; /* cumulative, events */
    uint64_t tx_bytes; /* cumulative, bytes */
    uint64_t tx_packets; /* cumulative, events */
    uint64_t tx_errs; /* cumulative, events */
    uint64_t tx_drop; /* cumulative, events */
};
typedef char domstat_check_net_io_rx_bytes[(offsetof(struct domstat_net_io, rx_bytes) == 16) ? 1 : -1];
typedef char domstat_check_net_io_rx_packets[(offsetof(struct domstat_net_io, rx_packets) == 24) ? 1 : -1];
typedef char domstat_check_net_io_rx_errs[(offsetof(struct domstat_net_io, rx_errs) == 32) ? 1 : -1];
typedef char domstat_check_net_io_rx_drop[(offsetof(struct domstat_net_io, rx_drop) == 40) ? 1 : -1];
typedef char domstat_check_net_io_tx_bytes[(offsetof(struct domstat_net_io, tx_bytes) == 48) ? 1 : -1];
typedef char domstat_check_net_io_tx_packets[(offsetof(struct domstat_net_io, tx_packets) == 56) ? 1 : -1];
typedef char domstat_check_net_io_tx_errs[(offsetof(struct domstat_net_io, tx_errs) == 64) ? 1 : -1];
typedef char domstat_check_net_io_tx_drop[(offsetof(struct domstat_net_io, tx_drop) == 72) ? 1 : -1];
typedef char domstat_check_net_io[(sizeof(struct domstat_net_io) == 80) ? 1 : -1];

/* What limits the interface stands under, and what they cost it. Written by the domain's management thread when they change, or by whoever enforces them. 0 is no limit.
 * Since revision 5. */
#define DOMSTAT_NET_LIMITS_BIT 2
struct domstat_net_limits {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t rx_limit_bytes; /* instant, bytes */
    uint64_t rx_limit_packets; /* instant, events */
    uint64_t rx_throttled_packets; /* cumulative, events */
    uint64_t rx_throttled_ns; /* cumulative, ns */
    uint64_t tx_limit_bytes; /* instant, bytes */
    uint64_t tx_limit_packets; /* instant, events */
    uint64_t tx_throttled_packets; /* cumulative, events */
    uint64_t tx_throttled_ns; /* cumulative, ns */
};
typedef char domstat_check_net_limits_rx_limit_bytes[(offsetof(struct domstat_net_limits, rx_limit_bytes) == 16) ? 1 : -1];
typedef char domstat_check_net_limits_rx_limit_packets[(offsetof(struct domstat_net_limits, rx_limit_packets) == 24) ? 1 : -1];
typedef char domstat_check_net_limits_rx_throttled_packets[(offsetof(struct domstat_net_limits, rx_throttled_packets) == 32) ? 1 : -1];
typedef char domstat_check_net_limits_rx_throttled_ns[(offsetof(struct domstat_net_limits, rx_throttled_ns) == 40) ? 1 : -1];
typedef char domstat_check_net_limits_tx_limit_bytes[(offsetof(struct domstat_net_limits, tx_limit_bytes) == 48) ? 1 : -1];
typedef char domstat_check_net_limits_tx_limit_packets[(offsetof(struct domstat_net_limits, tx_limit_packets) == 56) ? 1 : -1];
typedef char domstat_check_net_limits_tx_throttled_packets[(offsetof(struct domstat_net_limits, tx_throttled_packets) == 64) ? 1 : -1];
typedef char domstat_check_net_limits_tx_throttled_ns[(offsetof(struct domstat_net_limits, tx_throttled_ns) == 72) ? 1 : -1];
typedef char domstat_check_net_limits[(sizeof(struct domstat_net_limits) == 80) ? 1 : -1];

/* The net record. Since revision 4. */
struct domstat_net {
    struct domstat_record_header header;
    struct domstat_net_identity identity; /* since 4 */
    struct domstat_net_io io; /* since 4 */
    struct domstat_net_limits limits; /* since 5 */
};
typedef char domstat_check_record_net_identity[(offsetof(struct domstat_net, identity) == 32) ? 1 : -1];
typedef char domstat_check_record_net_io[(offsetof(struct domstat_net, io) == 176) ? 1 : -1];
typedef char domstat_check_record_net_limits[(offsetof(struct domstat_net, limits) == 256) ? 1 : -1];
typedef char domstat_check_record_net[(sizeof(struct domstat_net) == 336) ? 1 : -1];

/* Which device, and which of its queues, the share is of. Written by the owner of the record when the share is given out; constant until the slot is given to another (`generation`).
 * Since revision 5. */
#define DOMSTAT_BLK_QUEUE_OF_BIT 0
struct domstat_blk_queue_of {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t device; /* id, - */
    uint64_t generation; /* id, - */
    uint64_t queue; /* id, - */
    uint64_t pid; /* id, - */
};
typedef char domstat_check_blk_queue_of_device[(offsetof(struct domstat_blk_queue_of, device) == 16) ? 1 : -1];
typedef char domstat_check_blk_queue_of_generation[(offsetof(struct domstat_blk_queue_of, generation) == 24) ? 1 : -1];
typedef char domstat_check_blk_queue_of_queue[(offsetof(struct domstat_blk_queue_of, queue) == 32) ? 1 : -1];
typedef char domstat_check_blk_queue_of_pid[(offsetof(struct domstat_blk_queue_of, pid) == 40) ? 1 : -1];
typedef char domstat_check_blk_queue_of[(sizeof(struct domstat_blk_queue_of) == 48) ? 1 : -1];

/* One queue's share of the device's `io`. Written by whoever serves the queue.
 * Since revision 5. */
#define DOMSTAT_BLK_QUEUE_IO_BIT 1
struct domstat_blk_queue_io {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t rd_req; /* cumulative, events */
    uint64_t rd_bytes; /* cumulative, bytes */
    uint64_t wr_req; /* cumulative, events */
    uint64_t wr_bytes; /* cumulative, bytes */
    uint64_t errs; /* cumulative, events */
    uint64_t in_flight; /* instant, - */
};
typedef char domstat_check_blk_queue_io_rd_req[(offsetof(struct domstat_blk_queue_io, rd_req) == 16) ? 1 : -1];
typedef char domstat_check_blk_queue_io_rd_bytes[(offsetof(struct domstat_blk_queue_io, rd_bytes) == 24) ? 1 : -1];
typedef char domstat_check_blk_queue_io_wr_req[(offsetof(struct domstat_blk_queue_io, wr_req) == 32) ? 1 : -1];
typedef char domstat_check_blk_queue_io_wr_bytes[(offsetof(struct domstat_blk_queue_io, wr_bytes) == 40) ? 1 : -1];
typedef char domstat_check_blk_queue_io_errs[(offsetof(struct domstat_blk_queue_io, errs) == 48) ? 1 : -1];
typedef char domstat_check_blk_queue_io_in_flight[(offsetof(struct domstat_blk_queue_io, in_flight) == 56) ? 1 : -1];
typedef char domstat_check_blk_queue_io[(sizeof(struct domstat_blk_queue_io) == 64) ? 1 : -1];

/* One queue's share of the device's `io_times`. Written by whoever serves the queue.
 * Since revision 5. */
#define DOMSTAT_BLK_QUEUE_IO_TIMES_BIT 2
struct domstat_blk_queue_io_times {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t rd_total_ns; /* cumulative, ns */
    uint64_t wr_total_ns; /* cumulative, ns */
    uint64_t flush_req; /* cumulative, events */
    uint64_t flush_total_ns; /* cumulative, ns */
};
typedef char domstat_check_blk_queue_io_times_rd_total_ns[(offsetof(struct domstat_blk_queue_io_times, rd_total_ns) == 16) ? 1 : -1];
typedef char domstat_check_blk_queue_io_times_wr_total_ns[(offsetof(struct domstat_blk_queue_io_times, wr_total_ns) == 24) ? 1 : -1];
typedef char domstat_check_blk_queue_io_times_flush_req[(offsetof(struct domstat_blk_queue_io_times, flush_req) == 32) ? 1 : -1];
typedef char domstat_check_blk_queue_io_times_flush_total_ns[(offsetof(struct domstat_blk_queue_io_times, flush_total_ns) == 40) ? 1 : -1];
typedef char domstat_check_blk_queue_io_times[(sizeof(struct domstat_blk_queue_io_times) == 48) ? 1 : -1];

/* One queue's share of the device's `queue`. Written by whoever serves the queue.
 * Since revision 5. */
#define DOMSTAT_BLK_QUEUE_QUEUE_BIT 3
struct domstat_blk_queue_queue {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t busy_ns; /* cumulative, ns */
    uint64_t queued_ns; /* cumulative, ns */
    uint64_t submitted; /* cumulative, events */
    uint64_t completed; /* cumulative, events */
};
typedef char domstat_check_blk_queue_queue_busy_ns[(offsetof(struct domstat_blk_queue_queue, busy_ns) == 16) ? 1 : -1];
typedef char domstat_check_blk_queue_queue_queued_ns[(offsetof(struct domstat_blk_queue_queue, queued_ns) == 24) ? 1 : -1];
typedef char domstat_check_blk_queue_queue_submitted[(offsetof(struct domstat_blk_queue_queue, submitted) == 32) ? 1 : -1];
typedef char domstat_check_blk_queue_queue_completed[(offsetof(struct domstat_blk_queue_queue, completed) == 40) ? 1 : -1];
typedef char domstat_check_blk_queue_queue[(sizeof(struct domstat_blk_queue_queue) == 48) ? 1 : -1];

/* One queue's share of the device's `discards`. Written by whoever serves the queue.
 * Since revision 5. */
#define DOMSTAT_BLK_QUEUE_DISCARDS_BIT 4
struct domstat_blk_queue_discards {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t dis_req; /* cumulative, events */
    uint64_t dis_bytes; /* cumulative, bytes */
    uint64_t dis_total_ns; /* cumulative, ns */
    uint64_t dis_merged; /* cumulative, events */
};
typedef char domstat_check_blk_queue_discards_dis_req[(offsetof(struct domstat_blk_queue_discards, dis_req) == 16) ? 1 : -1];
typedef char domstat_check_blk_queue_discards_dis_bytes[(offsetof(struct domstat_blk_queue_discards, dis_bytes) == 24) ? 1 : -1];
typedef char domstat_check_blk_queue_discards_dis_total_ns[(offsetof(struct domstat_blk_queue_discards, dis_total_ns) == 32) ? 1 : -1];
typedef char domstat_check_blk_queue_discards_dis_merged[(offsetof(struct domstat_blk_queue_discards, dis_merged) == 40) ? 1 : -1];
typedef char domstat_check_blk_queue_discards[(sizeof(struct domstat_blk_queue_discards) == 48) ? 1 : -1];

/* One queue's share of the device's `failures`. Written by whoever serves the queue.
 * Since revision 5. */
#define DOMSTAT_BLK_QUEUE_FAILURES_BIT 5
struct domstat_blk_queue_failures {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t rd_failed; /* cumulative, events */
    uint64_t wr_failed; /* cumulative, events */
    uint64_t flush_failed; /* cumulative, events */
    uint64_t dis_failed; /* cumulative, events */
    uint64_t rd_invalid; /* cumulative, events */
    uint64_t wr_invalid; /* cumulative, events */
    uint64_t flush_invalid; /* cumulative, events */
    uint64_t dis_invalid; /* cumulative, events */
};
typedef char domstat_check_blk_queue_failures_rd_failed[(offsetof(struct domstat_blk_queue_failures, rd_failed) == 16) ? 1 : -1];
typedef char domstat_check_blk_queue_failures_wr_failed[(offsetof(struct domstat_blk_queue_failures, wr_failed) == 24) ? 1 : -1];
typedef char domstat_check_blk_queue_failures_flush_failed[(offsetof(struct domstat_blk_queue_failures, flush_failed) == 32) ? 1 : -1];
typedef char domstat_check_blk_queue_failures_dis_failed[(offsetof(struct domstat_blk_queue_failures, dis_failed) == 40) ? 1 : -1];
typedef char domstat_check_blk_queue_failures_rd_invalid[(offsetof(struct domstat_blk_queue_failures, rd_invalid) == 48) ? 1 : -1];
typedef char domstat_check_blk_queue_failures_wr_invalid[(offsetof(struct domstat_blk_queue_failures, wr_invalid) == 56) ? 1 : -1];
typedef char domstat_check_blk_queue_failures_flush_invalid[(offsetof(struct domstat_blk_queue_failures, flush_invalid) == 64) ? 1 : -1];
typedef char domstat_check_blk_queue_failures_dis_invalid[(offsetof(struct domstat_blk_queue_failures, dis_invalid) == 72) ? 1 : -1];
typedef char domstat_check_blk_queue_failures[(sizeof(struct domstat_blk_queue_failures) == 80) ? 1 : -1];

/* One queue's share of the device's `rd_latency`. Written by whoever serves the queue.
 * Since revision 5. */
#define DOMSTAT_BLK_QUEUE_RD_LATENCY_BIT 6
struct domstat_blk_queue_rd_latency {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t sum_ns; /* cumulative, ns */
    uint64_t max_ns; /* peak, ns */
    uint64_t ns[40]; /* log_histogram, ns */
};
typedef char domstat_check_blk_queue_rd_latency_sum_ns[(offsetof(struct domstat_blk_queue_rd_latency, sum_ns) == 16) ? 1 : -1];
typedef char domstat_check_blk_queue_rd_latency_max_ns[(offsetof(struct domstat_blk_queue_rd_latency, max_ns) == 24) ? 1 : -1];
typedef char domstat_check_blk_queue_rd_latency_ns[(offsetof(struct domstat_blk_queue_rd_latency, ns) == 32) ? 1 : -1];
typedef char domstat_check_blk_queue_rd_latency[(sizeof(struct domstat_blk_queue_rd_latency) == 352) ? 1 : -1];

/* One queue's share of the device's `wr_latency`. Written by whoever serves the queue.
 * Since revision 5. */
#define DOMSTAT_BLK_QUEUE_WR_LATENCY_BIT 7
struct domstat_blk_queue_wr_latency {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t sum_ns; /* cumulative, ns */
    uint64_t max_ns; /* peak, ns */
    uint64_t ns[40]; /* log_histogram, ns */
};
typedef char domstat_check_blk_queue_wr_latency_sum_ns[(offsetof(struct domstat_blk_queue_wr_latency, sum_ns) == 16) ? 1 : -1];
typedef char domstat_check_blk_queue_wr_latency_max_ns[(offsetof(struct domstat_blk_queue_wr_latency, max_ns) == 24) ? 1 : -1];
typedef char domstat_check_blk_queue_wr_latency_ns[(offsetof(struct domstat_blk_queue_wr_latency, ns) == 32) ? 1 : -1];
typedef char domstat_check_blk_queue_wr_latency[(sizeof(struct domstat_blk_queue_wr_latency) == 352) ? 1 : -1];

/* One queue's share of the device's `fl_latency`. Written by whoever serves the queue.
 * Since revision 5. */
#define DOMSTAT_BLK_QUEUE_FL_LATENCY_BIT 8
struct domstat_blk_queue_fl_latency {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t sum_ns; /* cumulative, ns */
    uint64_t max_ns; /* peak, ns */
    uint64_t ns[40]; /* log_histogram, ns */
};
typedef char domstat_check_blk_queue_fl_latency_sum_ns[(offsetof(struct domstat_blk_queue_fl_latency, sum_ns) == 16) ? 1 : -1];
typedef char domstat_check_blk_queue_fl_latency_max_ns[(offsetof(struct domstat_blk_queue_fl_latency, max_ns) == 24) ? 1 : -1];
typedef char domstat_check_blk_queue_fl_latency_ns[(offsetof(struct domstat_blk_queue_fl_latency, ns) == 32) ? 1 : -1];
typedef char domstat_check_blk_queue_fl_latency[(sizeof(struct domstat_blk_queue_fl_latency) == 352) ? 1 : -1];

/* One queue's share of the device's `rd_size`. Written by whoever serves the queue.
 * Since revision 5. */
#define DOMSTAT_BLK_QUEUE_RD_SIZE_BIT 9
struct domstat_blk_queue_rd_size {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t sum_bytes; /* cumulative, bytes */
    uint64_t max_bytes; /* peak, bytes */
    uint64_t bytes[32]; /* log_histogram, bytes */
};
typedef char domstat_check_blk_queue_rd_size_sum_bytes[(offsetof(struct domstat_blk_queue_rd_size, sum_bytes) == 16) ? 1 : -1];
typedef char domstat_check_blk_queue_rd_size_max_bytes[(offsetof(struct domstat_blk_queue_rd_size, max_bytes) == 24) ? 1 : -1];
typedef char domstat_check_blk_queue_rd_size_bytes[(offsetof(struct domstat_blk_queue_rd_size, bytes) == 32) ? 1 : -1];
typedef char domstat_check_blk_queue_rd_size[(sizeof(struct domstat_blk_queue_rd_size) == 288) ? 1 : -1];

/* One queue's share of the device's `wr_size`. Written by whoever serves the queue.
 * Since revision 5. */
#define DOMSTAT_BLK_QUEUE_WR_SIZE_BIT 10
struct domstat_blk_queue_wr_size {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t sum_bytes; /* cumulative, bytes */
    uint64_t max_bytes; /* peak, bytes */
    uint64_t bytes[32]; /* log_histogram, bytes */
};
typedef char domstat_check_blk_queue_wr_size_sum_bytes[(offsetof(struct domstat_blk_queue_wr_size, sum_bytes) == 16) ? 1 : -1];
typedef char domstat_check_blk_queue_wr_size_max_bytes[(offsetof(struct domstat_blk_queue_wr_size, max_bytes) == 24) ? 1 : -1];
typedef char domstat_check_blk_queue_wr_size_bytes[(offsetof(struct domstat_blk_queue_wr_size, bytes) == 32) ? 1 : -1];
typedef char domstat_check_blk_queue_wr_size[(sizeof(struct domstat_blk_queue_wr_size) == 288) ? 1 : -1];

/* The blk_queue record. Since revision 5. */
struct domstat_blk_queue_record {
    struct domstat_record_header header;
    struct domstat_blk_queue_of of; /* since 5 */
    struct domstat_blk_queue_io io; /* since 5 */
    struct domstat_blk_queue_io_times io_times; /* since 5 */
    struct domstat_blk_queue_queue queue; /* since 5 */
    struct domstat_blk_queue_discards discards; /* since 5 */
    struct domstat_blk_queue_failures failures; /* since 5 */
    struct domstat_blk_queue_rd_latency rd_latency; /* since 5 */
    struct domstat_blk_queue_wr_latency wr_latency; /* since 5 */
    struct domstat_blk_queue_fl_latency fl_latency; /* since 5 */
    struct domstat_blk_queue_rd_size rd_size; /* since 5 */
    struct domstat_blk_queue_wr_size wr_size; /* since 5 */
};
typedef char domstat_check_record_blk_queue_of[(offsetof(struct domstat_blk_queue_record, of) == 32) ? 1 : -1];
typedef char domstat_check_record_blk_queue_io[(offsetof(struct domstat_blk_queue_record, io) == 80) ? 1 : -1];
typedef char domstat_check_record_blk_queue_io_times[(offsetof(struct domstat_blk_queue_record, io_times) == 144) ? 1 : -1];
typedef char domstat_check_record_blk_queue_queue[(offsetof(struct domstat_blk_queue_record, queue) == 192) ? 1 : -1];
typedef char domstat_check_record_blk_queue_discards[(offsetof(struct domstat_blk_queue_record, discards) == 240) ? 1 : -1];
typedef char domstat_check_record_blk_queue_failures[(offsetof(struct domstat_blk_queue_record, failures) == 288) ? 1 : -1];
typedef char domstat_check_record_blk_queue_rd_latency[(offsetof(struct domstat_blk_queue_record, rd_latency) == 368) ? 1 : -1];
typedef char domstat_check_record_blk_queue_wr_latency[(offsetof(struct domstat_blk_queue_record, wr_latency) == 720) ? 1 : -1];
typedef char domstat_check_record_blk_queue_fl_latency[(offsetof(struct domstat_blk_queue_record, fl_latency) == 1072) ? 1 : -1];
typedef char domstat_check_record_blk_queue_rd_size[(offsetof(struct domstat_blk_queue_record, rd_size) == 1424) ? 1 : -1];
typedef char domstat_check_record_blk_queue_wr_size[(offsetof(struct domstat_blk_queue_record, wr_size) == 1712) ? 1 : -1];
typedef char domstat_check_record_blk_queue_record[(sizeof(struct domstat_blk_queue_record) == 2000) ? 1 : -1];

/* Which interface, and which of its queues, the share is of. Written by the owner of the record when the share is given out; constant until the slot is given to another (`generation`).
 * Since revision 5. */
#define DOMSTAT_NET_QUEUE_OF_BIT 0
struct domstat_net_queue_of {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t device; /* id, - */
    uint64_t generation; /* id, - */
    uint64_t queue; /* id, - */
    uint64_t pid; /* id, - */
};
typedef char domstat_check_net_queue_of_device[(offsetof(struct domstat_net_queue_of, device) == 16) ? 1 : -1];
typedef char domstat_check_net_queue_of_generation[(offsetof(struct domstat_net_queue_of, generation) == 24) ? 1 : -1];
typedef char domstat_check_net_queue_of_queue[(offsetof(struct domstat_net_queue_of, queue) == 32) ? 1 : -1];
typedef char domstat_check_net_queue_of_pid[(offsetof(struct domstat_net_queue_of, pid) == 40) ? 1 : -1];
typedef char domstat_check_net_queue_of[(sizeof(struct domstat_net_queue_of) == 48) ? 1 : -1];

/* One queue's share of the interface's `io`. Written by whoever serves the queue.
 * Since revision 5. */
#define DOMSTAT_NET_QUEUE_IO_BIT 1
struct domstat_net_queue_io {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t rx_bytes; /* cumulative, bytes */
    uint64_t rx_packets; /* cumulative, events */
    uint64_t rx_errs; /* cumulative, events */
    uint64_t rx_drop; /* cumulative, events */
    uint64_t tx_bytes; /* cumulative, bytes */
    uint64_t tx_packets; /* cumulative, events */
    uint64_t tx_errs; /* cumulative, events */
    uint64_t tx_drop; /* cumulative, events */
};
typedef char domstat_check_net_queue_io_rx_bytes[(offsetof(struct domstat_net_queue_io, rx_bytes) == 16) ? 1 : -1];
typedef char domstat_check_net_queue_io_rx_packets[(offsetof(struct domstat_net_queue_io, rx_packets) == 24) ? 1 : -1];
typedef char domstat_check_net_queue_io_rx_errs[(offsetof(struct domstat_net_queue_io, rx_errs) == 32) ? 1 : -1];
typedef char domstat_check_net_queue_io_rx_drop[(offsetof(struct domstat_net_queue_io, rx_drop) == 40) ? 1 : -1];
typedef char domstat_check_net_queue_io_tx_bytes[(offsetof(struct domstat_net_queue_io, tx_bytes) == 48) ? 1 : -1];
typedef char domstat_check_net_queue_io_tx_packets[(offsetof(struct domstat_net_queue_io, tx_packets) == 56) ? 1 : -1];
typedef char domstat_check_net_queue_io_tx_errs[(offsetof(struct domstat_net_queue_io, tx_errs) == 64) ? 1 : -1];
typedef char domstat_check_net_queue_io_tx_drop[(offsetof(struct domstat_net_queue_io, tx_drop) == 72) ? 1 : -1];
typedef char domstat_check_net_queue_io[(sizeof(struct domstat_net_queue_io) == 80) ? 1 : -1];

/* The net_queue record. Since revision 5. */
struct domstat_net_queue_record {
    struct domstat_record_header header;
    struct domstat_net_queue_of of; /* since 5 */
    struct domstat_net_queue_io io; /* since 5 */
};
typedef char domstat_check_record_net_queue_of[(offsetof(struct domstat_net_queue_record, of) == 32) ? 1 : -1];
typedef char domstat_check_record_net_queue_io[(offsetof(struct domstat_net_queue_record, io) == 80) ? 1 : -1];
typedef char domstat_check_record_net_queue_record[(sizeof(struct domstat_net_queue_record) == 160) ? 1 : -1];

/* Single waits for a physical CPU: steal, one by one. Written by whoever schedules or runs the vCPU, when a wait ends.
 * Since revision 5. */
#define DOMSTAT_VCPU_HIST_WAIT_BIT 0
struct domstat_vcpu_hist_wait {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t sum_ns; /* cumulative, ns */
    uint64_t max_ns; /* peak, ns */
    uint64_t ns[40]; /* log_histogram, ns */
};
typedef char domstat_check_vcpu_hist_wait_sum_ns[(offsetof(struct domstat_vcpu_hist_wait, sum_ns) == 16) ? 1 : -1];
typedef char domstat_check_vcpu_hist_wait_max_ns[(offsetof(struct domstat_vcpu_hist_wait, max_ns) == 24) ? 1 : -1];
typedef char domstat_check_vcpu_hist_wait_ns[(offsetof(struct domstat_vcpu_hist_wait, ns) == 32) ? 1 : -1];
typedef char domstat_check_vcpu_hist_wait[(sizeof(struct domstat_vcpu_hist_wait) == 352) ? 1 : -1];

/* The vcpu_hist record. Since revision 5. */
struct domstat_vcpu_hist_record {
    struct domstat_record_header header;
    struct domstat_vcpu_hist_wait wait; /* since 5 */
};
typedef char domstat_check_record_vcpu_hist_wait[(offsetof(struct domstat_vcpu_hist_record, wait) == 32) ? 1 : -1];
typedef char domstat_check_record_vcpu_hist_record[(sizeof(struct domstat_vcpu_hist_record) == 384) ? 1 : -1];

/* How long reads took, from acceptance to completion. Written by whoever serves the device.
 * Since revision 5. */
#define DOMSTAT_BLK_HIST_RD_LATENCY_BIT 0
struct domstat_blk_hist_rd_latency {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t sum_ns; /* cumulative, ns */
    uint64_t max_ns; /* peak, ns */
    uint64_t ns[40]; /* log_histogram, ns */
};
typedef char domstat_check_blk_hist_rd_latency_sum_ns[(offsetof(struct domstat_blk_hist_rd_latency, sum_ns) == 16) ? 1 : -1];
typedef char domstat_check_blk_hist_rd_latency_max_ns[(offsetof(struct domstat_blk_hist_rd_latency, max_ns) == 24) ? 1 : -1];
typedef char domstat_check_blk_hist_rd_latency_ns[(offsetof(struct domstat_blk_hist_rd_latency, ns) == 32) ? 1 : -1];
typedef char domstat_check_blk_hist_rd_latency[(sizeof(struct domstat_blk_hist_rd_latency) == 352) ? 1 : -1];

/* How long writes took, from acceptance to completion. Written by whoever serves the device.
 * Since revision 5. */
#define DOMSTAT_BLK_HIST_WR_LATENCY_BIT 1
struct domstat_blk_hist_wr_latency {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t sum_ns; /* cumulative, ns */
    uint64_t max_ns; /* peak, ns */
    uint64_t ns[40]; /* log_histogram, ns */
};
typedef char domstat_check_blk_hist_wr_latency_sum_ns[(offsetof(struct domstat_blk_hist_wr_latency, sum_ns) == 16) ? 1 : -1];
typedef char domstat_check_blk_hist_wr_latency_max_ns[(offsetof(struct domstat_blk_hist_wr_latency, max_ns) == 24) ? 1 : -1];
typedef char domstat_check_blk_hist_wr_latency_ns[(offsetof(struct domstat_blk_hist_wr_latency, ns) == 32) ? 1 : -1];
typedef char domstat_check_blk_hist_wr_latency[(sizeof(struct domstat_blk_hist_wr_latency) == 352) ? 1 : -1];

/* How long flushes took, from acceptance to completion. Written by whoever serves the device.
 * Since revision 5. */
#define DOMSTAT_BLK_HIST_FL_LATENCY_BIT 2
struct domstat_blk_hist_fl_latency {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t sum_ns; /* cumulative, ns */
    uint64_t max_ns; /* peak, ns */
    uint64_t ns[40]; /* log_histogram, ns */
};
typedef char domstat_check_blk_hist_fl_latency_sum_ns[(offsetof(struct domstat_blk_hist_fl_latency, sum_ns) == 16) ? 1 : -1];
typedef char domstat_check_blk_hist_fl_latency_max_ns[(offsetof(struct domstat_blk_hist_fl_latency, max_ns) == 24) ? 1 : -1];
typedef char domstat_check_blk_hist_fl_latency_ns[(offsetof(struct domstat_blk_hist_fl_latency, ns) == 32) ? 1 : -1];
typedef char domstat_check_blk_hist_fl_latency[(sizeof(struct domstat_blk_hist_fl_latency) == 352) ? 1 : -1];

/* How large reads were. Written by whoever serves the device.
 * Since revision 5. */
#define DOMSTAT_BLK_HIST_RD_SIZE_BIT 3
struct domstat_blk_hist_rd_size {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t sum_bytes; /* cumulative, bytes */
    uint64_t max_bytes; /* peak, bytes */
    uint64_t bytes[32]; /* log_histogram, bytes */
};
typedef char domstat_check_blk_hist_rd_size_sum_bytes[(offsetof(struct domstat_blk_hist_rd_size, sum_bytes) == 16) ? 1 : -1];
typedef char domstat_check_blk_hist_rd_size_max_bytes[(offsetof(struct domstat_blk_hist_rd_size, max_bytes) == 24) ? 1 : -1];
typedef char domstat_check_blk_hist_rd_size_bytes[(offsetof(struct domstat_blk_hist_rd_size, bytes) == 32) ? 1 : -1];
typedef char domstat_check_blk_hist_rd_size[(sizeof(struct domstat_blk_hist_rd_size) == 288) ? 1 : -1];

/* How large writes were. Written by whoever serves the device.
 * Since revision 5. */
#define DOMSTAT_BLK_HIST_WR_SIZE_BIT 4
struct domstat_blk_hist_wr_size {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    uint64_t sum_bytes; /* cumulative, bytes */
    uint64_t max_bytes; /* peak, bytes */
    uint64_t bytes[32]; /* log_histogram, bytes */
};
typedef char domstat_check_blk_hist_wr_size_sum_bytes[(offsetof(struct domstat_blk_hist_wr_size, sum_bytes) == 16) ? 1 : -1];
typedef char domstat_check_blk_hist_wr_size_max_bytes[(offsetof(struct domstat_blk_hist_wr_size, max_bytes) == 24) ? 1 : -1];
typedef char domstat_check_blk_hist_wr_size_bytes[(offsetof(struct domstat_blk_hist_wr_size, bytes) == 32) ? 1 : -1];
typedef char domstat_check_blk_hist_wr_size[(sizeof(struct domstat_blk_hist_wr_size) == 288) ? 1 : -1];

/* The blk_hist record. Since revision 5. */
struct domstat_blk_hist_record {
    struct domstat_record_header header;
    struct domstat_blk_hist_rd_latency rd_latency; /* since 5 */
    struct domstat_blk_hist_wr_latency wr_latency; /* since 5 */
    struct domstat_blk_hist_fl_latency fl_latency; /* since 5 */
    struct domstat_blk_hist_rd_size rd_size; /* since 5 */
    struct domstat_blk_hist_wr_size wr_size; /* since 5 */
};
typedef char domstat_check_record_blk_hist_rd_latency[(offsetof(struct domstat_blk_hist_record, rd_latency) == 32) ? 1 : -1];
typedef char domstat_check_record_blk_hist_wr_latency[(offsetof(struct domstat_blk_hist_record, wr_latency) == 384) ? 1 : -1];
typedef char domstat_check_record_blk_hist_fl_latency[(offsetof(struct domstat_blk_hist_record, fl_latency) == 736) ? 1 : -1];
typedef char domstat_check_record_blk_hist_rd_size[(offsetof(struct domstat_blk_hist_record, rd_size) == 1088) ? 1 : -1];
typedef char domstat_check_record_blk_hist_wr_size[(offsetof(struct domstat_blk_hist_record, wr_size) == 1376) ? 1 : -1];
typedef char domstat_check_record_blk_hist_record[(sizeof(struct domstat_blk_hist_record) == 1664) ? 1 : -1];

/* What the operator calls the domain by: tenant, project, service. Written once by the creator of the region, before it is published; constant within an incarnation.
 * Since revision 5. */
#define DOMSTAT_LABELS_LABELS_BIT 0
struct domstat_labels_labels {
    uint32_t seq;
    uint32_t rsvd;
    uint64_t updated_ns;
    char text[1024]; /* text, - */
};
typedef char domstat_check_labels_labels_text[(offsetof(struct domstat_labels_labels, text) == 16) ? 1 : -1];
typedef char domstat_check_labels_labels[(sizeof(struct domstat_labels_labels) == 1040) ? 1 : -1];

/* The labels record. Since revision 5. */
struct domstat_labels_record {
    struct domstat_record_header header;
    struct domstat_labels_labels labels; /* since 5 */
};
typedef char domstat_check_record_labels_labels[(offsetof(struct domstat_labels_record, labels) == 32) ? 1 : -1];
typedef char domstat_check_record_labels_record[(sizeof(struct domstat_labels_record) == 1072) ? 1 : -1];
