/* What requests.h, threads.h and the distributions of write.h make of calls: reads packets of one kind
 * from standard input.
 *
 *     counters requests    what happened, when, and with a completed request its time and size; then
 *                          prints the bytes that a region has
 *     counters sums        two words: their sum
 *     counters estimator   now, the kernel's counters and what the thread is at: state and times
 *     counters parse       two lines, of schedstat and of stat: the four parts of a reading, or "refused"
 *     counters kvm FILE    a descriptor of KVM's statistics: the counters, or "refused"
 *     counters thread      nothing: what a thread did that computes and sleeps */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "r5.h"

#include "publish.h"
#include "requests.h"
#include "threads.h"

enum { SUBMIT, READ, WRITE, FLUSH, FAIL, WAIT };

static void print_bytes(const void *from, size_t len)
{
    for (size_t i = 0; i < len; i++)
        printf("%02x", ((const unsigned char *)from)[i]);
    printf("\n");
}

#define EMPTY(group)                                      \
    do {                                                  \
        struct domstat_blk_hist_##group none;             \
        memset(&none, 0, sizeof(none));                   \
        domstat_write_blk_hist_##group(hist, &none, 0);   \
    } while (0)

static int requests(void)
{
    struct domstat_options options = domstat_options_of("requests");
    struct domstat_requests requests;
    struct domstat_plan plan;
    uint64_t packet[4];
    options.nr_blks = 1;
    options.blk_hists = options.vcpu_hists = 1;
    if (domstat_plan_of(&options, &plan))
        return 1;
    void *map = calloc(1, plan.len);
    domstat_init(map, &plan, 7);
    struct domstat_blk *blk = domstat_blk_at(map, &plan, 0);
    struct domstat_blk_hist_record *hist = domstat_blk_hist_at(map, &plan, 0);
    struct domstat_vcpu_hist_record *vcpu = domstat_vcpu_hist_at(map, &plan, 0);
    /* No value yet: what a device has that is followed from the beginning. */
    EMPTY(rd_latency);
    EMPTY(wr_latency);
    EMPTY(fl_latency);
    EMPTY(rd_size);
    EMPTY(wr_size);
    domstat_requests_begin(&requests, 0);
    domstat_write_blk_queue(blk, &requests.queue, requests.as_of);
    while (fread(packet, sizeof(packet), 1, stdin) == 1) {
        const uint64_t now = packet[1];
        if (packet[0] == WAIT) {
            domstat_record_vcpu_hist_wait(vcpu, packet[2], now);
            continue;
        }
        const uint64_t were = requests.in_flight;
        if (packet[0] == SUBMIT)
            domstat_submit(&requests, now);
        else
            domstat_complete(&requests, now);
        if (requests.in_flight == were)
            continue;
        domstat_write_blk_queue(blk, &requests.queue, requests.as_of);
        if (packet[0] == READ) {
            domstat_record_blk_hist_rd_latency(hist, packet[2], requests.as_of);
            domstat_record_blk_hist_rd_size(hist, packet[3], requests.as_of);
        } else if (packet[0] == WRITE) {
            domstat_record_blk_hist_wr_latency(hist, packet[2], requests.as_of);
            domstat_record_blk_hist_wr_size(hist, packet[3], requests.as_of);
        } else if (packet[0] == FLUSH) {
            domstat_record_blk_hist_fl_latency(hist, packet[2], requests.as_of);
        }
    }
    print_bytes(&blk->queue, sizeof(blk->queue));
    print_bytes(hist, sizeof(*hist));
    print_bytes(vcpu, sizeof(*vcpu));
    printf("%" PRIu64 "\n", requests.in_flight);
    free(map);
    return 0;
}

static int sums(void)
{
    uint64_t packet[2];
    while (fread(packet, sizeof(packet), 1, stdin) == 1)
        printf("%" PRIu64 "\n", domstat_plus(packet[0], packet[1]));
    return 0;
}

static int estimator(void)
{
    struct domstat_estimator e;
    struct domstat_vcpu_runstate runstate;
    uint64_t packet[5];
    int is_first = 1;
    while (fread(packet, sizeof(packet), 1, stdin) == 1) {
        const struct domstat_reading reading = {packet[1], packet[2], packet[3],
                                                (enum domstat_activity)packet[4]};
        if (is_first)
            domstat_estimator_begin(&e, reading.activity, packet[0]);
        else
            domstat_estimator_advance(&e, &reading, packet[0]);
        is_first = 0;
        domstat_estimator_runstate(&e, &runstate);
        printf("%" PRIu64 " %d %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", runstate.state,
               runstate.state_entry_ns == DOMSTAT_NOT_PRODUCED, runstate.running_ns,
               runstate.runnable_ns, runstate.blocked_ns, runstate.offline_ns);
    }
    return 0;
}

static int parse(void)
{
    char schedstat[256], stat[256];
    struct domstat_reading reading;
    while (fgets(schedstat, sizeof(schedstat), stdin) && fgets(stat, sizeof(stat), stdin)) {
        if (domstat_thread_parse(schedstat, stat, &reading) != 0)
            printf("refused\n");
        else
            printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %d\n", reading.run_ns, reading.wait_ns,
                   reading.timeslices, (int)reading.activity);
    }
    return 0;
}

static int kvm(const char *path)
{
    struct domstat_kvm_exits exits;
    struct domstat_vcpu_exits counters;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 1;
    if (domstat_kvm_exits_open(&exits, fd) != 0 || domstat_kvm_exits_sample(&exits, &counters) != 0)
        printf("refused\n");
    else
        print_bytes((const char *)&counters + 16, sizeof(counters) - 16);
    close(fd);
    return 0;
}

static uint64_t cpu_time(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int tid, is_asleep;

/* Stands for a vCPU's thread. */
static void *work(void *unused)
{
    (void)unused;
    __atomic_store_n(&tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
    while (cpu_time(CLOCK_THREAD_CPUTIME_ID) < 200000000u)
        ;
    __atomic_store_n(&is_asleep, 1, __ATOMIC_RELEASE);
    while (pause() == -1)
        ;
    return NULL;
}

/* It computes, it sleeps, and it sleeps in a domain that is paused. */
static int thread(void)
{
    const struct timespec moment = {0, 1000000}, pause = {0, 200000000};
    struct domstat_thread thread;
    struct domstat_vcpu_runstate runstate;
    struct domstat_vcpu_sched sched;
    pthread_t worker;
    clockid_t clock;
    if (pthread_create(&worker, NULL, work, NULL) != 0 ||
        pthread_getcpuclockid(worker, &clock) != 0)
        return 1;
    while (!__atomic_load_n(&tid, __ATOMIC_ACQUIRE) || cpu_time(clock) < 1000000)
        nanosleep(&moment, NULL);
    if (domstat_thread_open(&thread, tid) != 0) {
        printf("refused\n");
        return 0;
    }
    const uint64_t began = thread.estimator.as_of, at_open = thread.at_open.run_ns;
    while (!__atomic_load_n(&is_asleep, __ATOMIC_ACQUIRE))
        nanosleep(&moment, NULL);
    for (int is_stopped = 0; is_stopped < 2; is_stopped++) {
        if (domstat_thread_sample(&thread, is_stopped, &runstate, &sched) != 0)
            return 1;
        nanosleep(&pause, NULL);
        if (domstat_thread_sample(&thread, is_stopped, &runstate, &sched) != 0)
            return 1;
        printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
               thread.estimator.as_of - began, cpu_time(clock) - at_open, runstate.running_ns,
               runstate.runnable_ns, runstate.blocked_ns, runstate.offline_ns, sched.time_ns - at_open);
    }
    domstat_thread_close(&thread);
    printf("%d\n", domstat_thread_sample(&thread, 0, &runstate, &sched));
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    return strcmp(what, "requests") == 0    ? requests()
           : strcmp(what, "sums") == 0      ? sums()
           : strcmp(what, "estimator") == 0 ? estimator()
           : strcmp(what, "parse") == 0     ? parse()
           : strcmp(what, "thread") == 0    ? thread()
           : argc == 3                      ? kvm(argv[2])
                                            : 2;
}
