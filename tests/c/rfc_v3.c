/*
 * Writes a region file in the vCPU-only layout of RFC v3 ("Add a new acquire resource to query
 * vcpu statistics", xen-devel, October 2023), as a hypervisor with those patches would.
 *
 * Usage: rfc_v3 FILE NR_VCPUS [--inactive VCPU] [--stuck VCPU] [--scaled] [--live SECONDS]
 *
 * vCPU i has run for i + 1 seconds and was written i + 1 times.
 *   --inactive  sets bit 63 of a vCPU's running time
 *   --stuck     leaves a vCPU's record in mid-update
 *   --scaled    counts the stride in records, as the patches as mailed do
 *   --live      goes on writing: each write adds a microsecond of running time
 *
 * Prints one line when the region is complete: what the compiler says of the structures.
 */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0xaabbccddu
#define CACHE_LINE 128u
#define PAGE 4096u
#define SECOND UINT64_C(1000000000)
#define BIT63 (UINT64_C(1) << 63)

/* vcpu_shmem_stats */
struct header {
    _Atomic uint32_t magic;
    uint32_t offset;
    uint32_t size;
    uint32_t stride;
};

/* vcpu_stats */
struct vcpu {
    _Atomic uint32_t seq;
    uint32_t pad0;
    _Atomic uint64_t runstate_running_time;
};

static uint32_t round_up(size_t n, uint32_t to)
{
    return (uint32_t)((n + to - 1) / to * to);
}

static void begin(struct vcpu *v)
{
    uint32_t seq = atomic_load_explicit(&v->seq, memory_order_relaxed);

    atomic_store_explicit(&v->seq, (seq + 1) | 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

static void end(struct vcpu *v)
{
    uint32_t seq = atomic_load_explicit(&v->seq, memory_order_relaxed);

    atomic_store_explicit(&v->seq, seq + 1, memory_order_release);
}

static void set(struct vcpu *v, uint64_t ns)
{
    begin(v);
    atomic_store_explicit(&v->runstate_running_time, ns, memory_order_relaxed);
    end(v);
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    long inactive = -1, stuck = -1, scaled = 0, nr;
    double live = 0;
    uint32_t offset = round_up(sizeof(struct header), CACHE_LINE);
    uint32_t stride = round_up(sizeof(struct vcpu), CACHE_LINE);
    struct header *header;
    struct vcpu **vcpus;
    size_t len;
    char *base;
    int fd;

    if (argc < 3)
        return 2;
    nr = atol(argv[2]);
    if (nr < 1 || nr > 4096)
        return 2;
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--scaled") == 0)
            scaled = 1;
        else if (i + 1 == argc)
            return 2;
        else if (strcmp(argv[i], "--inactive") == 0)
            inactive = atol(argv[++i]);
        else if (strcmp(argv[i], "--stuck") == 0)
            stuck = atol(argv[++i]);
        else if (strcmp(argv[i], "--live") == 0)
            live = atof(argv[++i]);
        else
            return 2;
    }

    len = round_up(offset + (size_t)stride * (size_t)nr, PAGE);
    fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)len) != 0)
        fail(argv[1]);
    base = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        fail("mmap");

    /* The magic comes last: here nobody waits for a hypercall to return. */
    header = (struct header *)base;
    header->offset = offset;
    header->size = sizeof(struct vcpu);
    header->stride = stride;

    vcpus = calloc((size_t)nr, sizeof(*vcpus));
    if (!vcpus)
        fail("calloc");
    for (long i = 0; i < nr; i++) {
        size_t at = offset + (size_t)stride * (size_t)i * (scaled ? sizeof(struct vcpu) : 1);

        /* Xen would write there; a process had better not. */
        if (at + sizeof(struct vcpu) > len)
            continue;
        vcpus[i] = (struct vcpu *)(base + at);
        for (long n = 0; n <= i; n++)
            set(vcpus[i], (uint64_t)(n + 1) * SECOND);
        if (i == inactive)
            set(vcpus[i], BIT63 | 12345);
        if (i == stuck)
            begin(vcpus[i]);
    }
    atomic_store_explicit(&header->magic, MAGIC, memory_order_release);

    printf("header %zu record %zu seq %zu pad %zu time %zu offset %u stride %u len %zu\n",
           sizeof(struct header), sizeof(struct vcpu), offsetof(struct vcpu, seq),
           offsetof(struct vcpu, pad0), offsetof(struct vcpu, runstate_running_time), offset,
           stride, len);
    fflush(stdout);

    for (double until = seconds() + live; live > 0 && seconds() < until;) {
        for (long i = 0; i < nr; i++) {
            if (vcpus[i] && i != inactive && i != stuck)
                set(vcpus[i], atomic_load_explicit(&vcpus[i]->runstate_running_time,
                                                   memory_order_relaxed) + 1000);
        }
    }
    return 0;
}
