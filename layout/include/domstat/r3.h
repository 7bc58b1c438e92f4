/* The domain-stats shared-memory ABI, revision 3, in C99.
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
#define DOMSTAT_REVISION 3

#include <stddef.h>
#include <stdint.h>

/* What a word can say instead of a number. */
#define DOMSTAT_NOT_PRODUCED (~(uint64_t)0)
#define DOMSTAT_SATURATED (~(uint64_t)1)

#define DOMSTAT_DOM_MAGIC 0x014d4f44u
#define DOMSTAT_VCPU_MAGIC 0x01504356u
#define DOMSTAT_BLK_MAGIC 0x014b4c42u

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
    uint32_t reserved0[6];
    uint32_t blk_offs; /* start of the blk array (revision 2) */
    uint32_t blk_size; /* length of one blk record as the producer was built */
    uint32_t blk_stride; /* distance between blk records */
    uint32_t nr_blks; /* records in the blk array */
    uint32_t reserved1[7];
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
typedef char domstat_check_dom_header_blk_offs[(offsetof(struct domstat_dom_header, blk_offs) == 84) ? 1 : -1];
typedef char domstat_check_dom_header_blk_size[(offsetof(struct domstat_dom_header, blk_size) == 88) ? 1 : -1];
typedef char domstat_check_dom_header_blk_stride[(offsetof(struct domstat_dom_header, blk_stride) == 92) ? 1 : -1];
typedef char domstat_check_dom_header_nr_blks[(offsetof(struct domstat_dom_header, nr_blks) == 96) ? 1 : -1];
typedef char domstat_check_dom_header[(sizeof(struct domstat_dom_header) == 128) ? 1 : -1];

struct domstat_record_header {
    uint32_t magic; /* of its kind: "VCP", "BLK", "NET" or "ARC", and 1 */
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

/* The dom record. Since revision 1. */
struct domstat_dom {
    struct domstat_dom_header header;
    struct domstat_dom_identity identity; /* since 1 */
    struct domstat_dom_memory memory; /* since 1 */
    struct domstat_dom_cpu cpu; /* since 2 */
};
typedef char domstat_check_record_dom_identity[(offsetof(struct domstat_dom, identity) == 128) ? 1 : -1];
typedef char domstat_check_record_dom_memory[(offsetof(struct domstat_dom, memory) == 304) ? 1 : -1];
typedef char domstat_check_record_dom_cpu[(offsetof(struct domstat_dom, cpu) == 400) ? 1 : -1];
typedef char domstat_check_record_dom[(sizeof(struct domstat_dom) == 448) ? 1 : -1];

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

/* The vcpu record. Since revision 1. */
struct domstat_vcpu {
    struct domstat_record_header header;
    struct domstat_vcpu_runstate runstate; /* since 1 */
    struct domstat_vcpu_sched sched; /* since 2 */
    struct domstat_vcpu_exits exits; /* since 2 */
};
typedef char domstat_check_record_vcpu_runstate[(offsetof(struct domstat_vcpu, runstate) == 32) ? 1 : -1];
typedef char domstat_check_record_vcpu_sched[(offsetof(struct domstat_vcpu, sched) == 96) ? 1 : -1];
typedef char domstat_check_record_vcpu_exits[(offsetof(struct domstat_vcpu, exits) == 144) ? 1 : -1];
typedef char domstat_check_record_vcpu[(sizeof(struct domstat_vcpu) == 224) ? 1 : -1];

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

/* The blk record. Since revision 2. */
struct domstat_blk {
    struct domstat_record_header header;
    struct domstat_blk_identity identity; /* since 2 */
    struct domstat_blk_io io; /* since 2 */
    struct domstat_blk_io_times io_times; /* since 3 */
    struct domstat_blk_extent extent; /* since 3 */
    struct domstat_blk_vbd vbd; /* since 3 */
    struct domstat_blk_job job; /* since 3 */
};
typedef char domstat_check_record_blk_identity[(offsetof(struct domstat_blk, identity) == 32) ? 1 : -1];
typedef char domstat_check_record_blk_io[(offsetof(struct domstat_blk, io) == 176) ? 1 : -1];
typedef char domstat_check_record_blk_io_times[(offsetof(struct domstat_blk, io_times) == 240) ? 1 : -1];
typedef char domstat_check_record_blk_extent[(offsetof(struct domstat_blk, extent) == 288) ? 1 : -1];
typedef char domstat_check_record_blk_vbd[(offsetof(struct domstat_blk, vbd) == 352) ? 1 : -1];
typedef char domstat_check_record_blk_job[(offsetof(struct domstat_blk, job) == 400) ? 1 : -1];
typedef char domstat_check_record_blk[(sizeof(struct domstat_blk) == 464) ? 1 : -1];
