/* The runstate of a vCPU from the kernel's books of its thread, and its exits from KVM's counters, on Linux
 * from C. Include it after a revision's header; define _GNU_SOURCE before any header.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *     domstat_thread_open(&thread, tid);                              // before a sandbox forbids it
 *     domstat_thread_sample(&thread, is_stopped, &runstate, &sched);  // several times a second, from any thread
 *
 * With the interrupt controller in the kernel a VMM does not see its vCPUs halt or wait for a CPU: both
 * happen inside of KVM_RUN. The kernel accounts what the thread did. Times count from the opening on,
 * never decrease, and sum to the time since then. */
#ifndef DOMSTAT_THREADS_H
#define DOMSTAT_THREADS_H

#include <stdlib.h>

#include "publish.h"

#if DOMSTAT_REVISION < 2
#error "its groups are those of revision 2"
#endif

/* How far `running` may lead the kernel's counter, which lags by a tick while a thread runs, and
 * `runnable` that of waiting, which lags until the thread gets a CPU. */
#define DOMSTAT_RUN_AHEAD_NS 12000000u
#define DOMSTAT_WAIT_AHEAD_NS 100000000u

/* What a thread is at, by its letter in /proc. */
enum domstat_activity { DOMSTAT_WANTS, DOMSTAT_WAITS, DOMSTAT_STOPPED };

/* The kernel's counters of a thread. */
struct domstat_reading {
    uint64_t run_ns, wait_ns, timeslices;
    enum domstat_activity activity;
};

/* Makes times of readings. */
struct domstat_estimator {
    uint64_t as_of, moved_at;
    struct domstat_reading last;
    uint64_t running, runnable, blocked, offline;
};

static inline uint64_t domstat_at_most(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t domstat_less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static inline uint64_t domstat_more(uint64_t a, uint64_t b)
{
    return domstat_less(UINT64_MAX, a) < b ? UINT64_MAX : a + b;
}

/* Takes up to `wish` out of the time that nothing accounts for yet, and adds it to `to`. */
static inline void domstat_take(uint64_t *rest, uint64_t *to, uint64_t wish)
{
    const uint64_t taken = domstat_at_most(wish, *rest);
    *to += taken;
    *rest -= taken;
}

/* Of a thread whose counters are 0 at `now`. */
static inline void domstat_estimator_begin(struct domstat_estimator *e,
                                           enum domstat_activity activity, uint64_t now)
{
    memset(e, 0, sizeof(*e));
    e->as_of = e->moved_at = now;
    e->last.activity = activity;
}

/* Whether a thread that wants a CPU has had none for longer than its counter lags. */
static inline int domstat_stands_still(const struct domstat_estimator *e)
{
    return e->as_of - e->moved_at > DOMSTAT_RUN_AHEAD_NS;
}

/* Distributes the time since the last reading: waiting and running as counted, the rest by what the
 * thread is at. */
static inline void domstat_estimator_advance(struct domstat_estimator *e,
                                             const struct domstat_reading *reading, uint64_t now)
{
    const struct domstat_reading before = e->last;
    uint64_t rest = domstat_less(now, e->as_of);
    e->as_of += rest;
    if (reading->run_ns != before.run_ns || reading->wait_ns != before.wait_ns ||
        reading->timeslices != before.timeslices || before.activity != DOMSTAT_WANTS)
        e->moved_at = e->as_of;
    e->last = *reading;
    domstat_take(&rest, &e->runnable, domstat_less(reading->wait_ns, e->runnable));
    domstat_take(&rest, &e->running, domstat_less(reading->run_ns, e->running));
    if (reading->activity == DOMSTAT_STOPPED) {
        e->offline += rest;
    } else if (reading->activity == DOMSTAT_WAITS) {
        e->blocked += rest;
    } else if (domstat_stands_still(e)) {
        e->runnable += rest;
    } else {
        domstat_take(&rest, &e->running,
                     domstat_less(domstat_more(reading->run_ns, DOMSTAT_RUN_AHEAD_NS), e->running));
        if (before.activity == DOMSTAT_WANTS)
            domstat_take(
                &rest, &e->runnable,
                domstat_less(domstat_more(reading->wait_ns, DOMSTAT_WAIT_AHEAD_NS), e->runnable));
        e->blocked += rest;
    }
}

/* State and times. When the state was entered is not produced: readings do not see it. */
static inline void domstat_estimator_runstate(const struct domstat_estimator *e,
                                              struct domstat_vcpu_runstate *to)
{
    to->state = e->last.activity == DOMSTAT_STOPPED  ? DOMSTAT_VCPU_RUNSTATE_STATE_OFFLINE
                : e->last.activity == DOMSTAT_WAITS  ? DOMSTAT_VCPU_RUNSTATE_STATE_BLOCKED
                : domstat_stands_still(e)            ? DOMSTAT_VCPU_RUNSTATE_STATE_RUNNABLE
                                                     : DOMSTAT_VCPU_RUNSTATE_STATE_RUNNING;
    to->state_entry_ns = DOMSTAT_NOT_PRODUCED;
    to->running_ns = e->running;
    to->runnable_ns = e->runnable;
    to->blocked_ns = e->blocked;
    to->offline_ns = e->offline;
}

/* ---- A thread of this process ---------------------------------------------------------------- */

/* Its open files in /proc, its counters when they were opened, and its times since then. */
struct domstat_thread {
    int schedstat, stat;
    struct domstat_reading at_open;
    struct domstat_estimator estimator;
};

/* Reads a file of /proc from its beginning, as much as fits, as text. */
static inline int domstat_read_text(int fd, char *to, size_t size)
{
    const ssize_t len = pread(fd, to, size - 1, 0);
    if (len <= 0)
        return -1;
    to[len] = '\0';
    return 0;
}

/* `schedstat` is "RUN WAIT TIMESLICES"; `stat` is "TID (NAME) STATE ...", where NAME can hold anything,
 * parentheses too. */
static inline int domstat_thread_parse(const char *schedstat, const char *stat,
                                       struct domstat_reading *to)
{
    const char *name_end = strrchr(stat, ')');
    char *end;
    uint64_t *const numbers[] = {&to->run_ns, &to->wait_ns, &to->timeslices};
    for (int i = 0; i < 3; i++) {
        errno = 0;
        *numbers[i] = strtoull(schedstat, &end, 10);
        if (end == schedstat || errno != 0)
            return -1;
        schedstat = end;
    }
    if (!name_end || name_end[1] != ' ' || name_end[2] == '\0')
        return -1;
    to->activity = name_end[2] == 'R' ? DOMSTAT_WANTS
                   : name_end[2] == 'T' || name_end[2] == 't' ? DOMSTAT_STOPPED
                                                              : DOMSTAT_WAITS;
    return 0;
}

static inline int domstat_thread_read(const struct domstat_thread *thread, struct domstat_reading *to)
{
    char schedstat[128], stat[128];
    if (domstat_read_text(thread->schedstat, schedstat, sizeof(schedstat)) != 0 ||
        domstat_read_text(thread->stat, stat, sizeof(stat)) != 0)
        return -1;
    return domstat_thread_parse(schedstat, stat, to);
}

static inline void domstat_thread_close(struct domstat_thread *thread)
{
    if (thread->schedstat >= 0)
        close(thread->schedstat);
    if (thread->stat >= 0)
        close(thread->stat);
    thread->schedstat = thread->stat = -1;
}

/* Opens the books of thread `tid` of this process. -1 where there are none, as in a jail without /proc
 * or on a kernel without scheduler statistics: then the times are not produced. */
static inline int domstat_thread_open(struct domstat_thread *thread, int tid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", tid);
    thread->schedstat = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
    thread->stat = open(path, O_RDONLY | O_CLOEXEC);
    if (thread->schedstat < 0 || thread->stat < 0 ||
        domstat_thread_read(thread, &thread->at_open) != 0 ||
        (thread->at_open.run_ns == 0 && thread->at_open.timeslices == 0)) {
        domstat_thread_close(thread);
        return -1;
    }
    domstat_estimator_begin(&thread->estimator, thread->at_open.activity, domstat_now());
    return 0;
}

/* What the thread did up to now, which is `estimator.as_of` then. -1 once it has exited. With
 * `is_stopped` it waits because its domain does not run, which is offline and not blocked. */
static inline int domstat_thread_sample(struct domstat_thread *thread, int is_stopped,
                                        struct domstat_vcpu_runstate *runstate,
                                        struct domstat_vcpu_sched *sched)
{
    struct domstat_reading reading;
    if (domstat_thread_read(thread, &reading) != 0)
        return -1;
    sched->time_ns = reading.run_ns;
    sched->wait_ns = DOMSTAT_NOT_PRODUCED;
    sched->delay_ns = reading.wait_ns;
    sched->timeslices = reading.timeslices;
    reading.run_ns = domstat_less(reading.run_ns, thread->at_open.run_ns);
    reading.wait_ns = domstat_less(reading.wait_ns, thread->at_open.wait_ns);
    reading.timeslices = domstat_less(reading.timeslices, thread->at_open.timeslices);
    if (is_stopped && reading.activity == DOMSTAT_WAITS)
        reading.activity = DOMSTAT_STOPPED;
    /* The time after the counters, so that they cannot say more than has passed. */
    domstat_estimator_advance(&thread->estimator, &reading, domstat_now());
    domstat_estimator_runstate(&thread->estimator, runstate);
    return 0;
}

/* ---- KVM's counters -------------------------------------------------------------------------- */

/* The statistics of a vCPU (KVM_GET_STATS_FD), and where in the data each field of the group `exits`
 * is; -1 for what this kernel does not count. */
struct domstat_kvm_exits {
    int fd;
    uint64_t data;
    int64_t places[8];
};

/* Takes the descriptor that KVM_GET_STATS_FD returned for a vCPU. -1 if it is none. */
static inline int domstat_kvm_exits_open(struct domstat_kvm_exits *exits, int fd)
{
    static const char *const names[] = {"exits",     "io_exits",     "mmio_exits", "halt_exits",
                                        "irq_exits", "signal_exits", "hypercalls", "insn_emulation"};
    /* Of the header: flags, name_size, num_desc, id_offset, desc_offset, data_offset. */
    uint32_t header[6];
    /* flags, exponent, size and offset, bucket_size, name. */
    struct {
        uint32_t words[4];
        char name[64];
    } desc;
    exits->fd = fd;
    for (int i = 0; i < 8; i++)
        exits->places[i] = -1;
    if (pread(fd, header, sizeof(header), 0) != (ssize_t)sizeof(header) || header[1] < 8 ||
        header[2] > 4096)
        return -1;
    exits->data = header[5];
    for (uint32_t i = 0; i < header[2]; i++) {
        const uint64_t at = header[4] + (uint64_t)i * (16 + header[1]);
        const size_t len = 16 + domstat_at_most(header[1], sizeof(desc.name) - 1);
        memset(&desc, 0, sizeof(desc));
        if (pread(fd, &desc, len, (off_t)at) != (ssize_t)len)
            return -1;
        for (int name = 0; name < 8; name++)
            if (strcmp(desc.name, names[name]) == 0)
                exits->places[name] = desc.words[2];
    }
    return 0;
}

/* The counters as of now, with one system call; -1 if the kernel does not say. */
static inline int domstat_kvm_exits_sample(const struct domstat_kvm_exits *exits,
                                           struct domstat_vcpu_exits *to)
{
    /* More than any kernel has before the last of these. */
    uint64_t data[512];
    const ssize_t len = pread(exits->fd, data, sizeof(data), (off_t)exits->data);
    uint64_t *const fields[] = {&to->exits,      &to->io_exits,   &to->mmio_exits,
                                &to->halt_exits, &to->irq_exits,  &to->signal_exits,
                                &to->hypercalls, &to->insn_emulation};
    if (len < 0)
        return -1;
    for (int i = 0; i < 8; i++) {
        const int64_t at = exits->places[i];
        *fields[i] = at >= 0 && at % 8 == 0 && at + 8 <= len ? data[at / 8] : DOMSTAT_NOT_PRODUCED;
    }
    return 0;
}

#endif
