/* A producer in C: publishes a domain with two vCPUs until Ctrl-C.
 *
 *     cc -std=gnu11 -O2 -pthread -I layout/include/domstat layout/examples/write.c -o write
 *     DOMSTAT_DIR=/run/domstat ./write
 *
 * Each vCPU is a thread that computes and sleeps. It counts its own rounds in the group exits; another
 * thread, the sampler, writes its runstate: two writers of one record, each of its own group. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "r5.h"

#include "publish.h"

enum { NR_VCPUS = 2 };

struct vcpu {
    struct domstat_vcpu *record;
    pthread_t thread;
    uint64_t work_ns;
};

static struct domstat_region region;
static volatile sig_atomic_t stop;

static void on_signal(int signal)
{
    (void)signal;
    stop = 1;
}

/* Stands for the loop around KVM_RUN. */
static void *run_vcpu(void *argument)
{
    struct vcpu *vcpu = argument;
    const struct timespec pause = {0, 50000000};
    struct domstat_vcpu_exits exits;
    /* Every counter begins as not produced, which is not 0; then those that are counted. */
    memset(&exits, 0xff, sizeof(exits));
    exits.exits = exits.halt_exits = 0;
    while (!stop) {
        const uint64_t began = domstat_now();
        while (domstat_now() - began < vcpu->work_ns)
            ;
        exits.exits++;
        exits.halt_exits++;
        domstat_write_vcpu_exits(vcpu->record, &exits, domstat_now());
        nanosleep(&pause, NULL);
    }
    return NULL;
}

/* The time that the thread ran, by its CPU clock. When it waited for a CPU and when it slept, this
 * clock does not say, so no state and no other time is produced. */
static void sample(const struct vcpu *vcpu)
{
    struct domstat_vcpu_runstate runstate;
    struct timespec time;
    clockid_t clock;
    if (pthread_getcpuclockid(vcpu->thread, &clock) != 0 || clock_gettime(clock, &time) != 0)
        return;
    memset(&runstate, 0xff, sizeof(runstate));
    runstate.running_ns = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    domstat_write_vcpu_runstate(vcpu->record, &runstate, domstat_now());
}

int main(void)
{
    const char *dir = getenv("DOMSTAT_DIR") ? getenv("DOMSTAT_DIR") : "/run/domstat";
    const struct timespec pause = {0, 100000000};
    struct sigaction action;
    struct domstat_entry entry;
    struct domstat_dom_memory memory;
    struct vcpu vcpus[NR_VCPUS];
    const char *why;
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    struct domstat_options options = domstat_options_of("hello-c");
    options.nr_vcpus = NR_VCPUS;
    options.created_ns = domstat_now();
    if ((why = domstat_create(&options, &region)) != NULL)
        goto fail;
    memset(&memory, 0xff, sizeof(memory));
    memory.current_bytes = 1 << 30;
    domstat_write_dom_memory(domstat_dom_at(region.map, &region.plan, 0), &memory, domstat_now());
    for (uint32_t i = 0; i < NR_VCPUS; i++) {
        vcpus[i].record = domstat_vcpu_at(region.map, &region.plan, i);
        vcpus[i].work_ns = 10000000 + 30000000 * i;
        if ((errno = pthread_create(&vcpus[i].thread, NULL, run_vcpu, &vcpus[i])) != 0) {
            why = "cannot start a thread";
            goto fail;
        }
        sample(&vcpus[i]);
    }
    if ((why = domstat_publish(&region)) != NULL ||
        (why = domstat_announce(&region, dir, options.name, &entry)) != NULL)
        goto fail;
    printf("publishing %s; Ctrl-C ends it\n", entry.path);
    fflush(stdout);
    while (!stop) {
        for (int i = 0; i < NR_VCPUS; i++)
            sample(&vcpus[i]);
        nanosleep(&pause, NULL);
    }
    for (int i = 0; i < NR_VCPUS; i++)
        pthread_join(vcpus[i].thread, NULL);
    domstat_withdraw(&entry);
    domstat_retire(&region); /* readers see that the domain has ended */
    return 0;
fail:
    fprintf(stderr, "%s%s%s\n", why, errno ? ": " : "", errno ? strerror(errno) : "");
    return 1;
}
