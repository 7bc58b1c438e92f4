/* The writer of domstat-torn in C, with write.h: torn --write DIR | --write-raw DIR. It writes the same
 * groups in the same file, and with --write a region of one vCPU, until its parent has exited. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "r5.h"

#include "write.h"

/* As tests/src/bin/domstat-torn.rs has them. */
enum { GROUP_SIZE = 512, PAYLOAD = (GROUP_SIZE - 16) / 8, SINGLE = 0, FIRST = GROUP_SIZE,
       SECOND = 2 * GROUP_SIZE, WRITTEN = 3 * GROUP_SIZE, RAW_LEN = 4096 };

static void *map(const char *path, int flags, size_t len)
{
    int fd = open(path, O_RDWR | flags, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)len) != 0)
        return MAP_FAILED;
    return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

static void write_runstate(struct domstat_vcpu *vcpu, uint64_t n)
{
    const struct domstat_vcpu_runstate runstate = {0, 0, 0, n % 4, n, n, 2 * n, 3 * n, 4 * n};
    domstat_write_vcpu_runstate(vcpu, &runstate, n);
}

int main(int argc, char **argv)
{
    const pid_t parent = getppid();
    struct domstat_options options = domstat_options_of("torn");
    struct domstat_vcpu *vcpu = NULL;
    struct domstat_plan plan;
    char path[4096], done[4096];
    uint64_t words[PAYLOAD], active = 3;
    if (argc != 3)
        return 2;
    const int typed = strcmp(argv[1], "--write") == 0;
    snprintf(path, sizeof(path), "%s/raw", argv[2]);
    char *raw = (char *)map(path, 0, RAW_LEN);
    if (raw == MAP_FAILED)
        return 1;
    uint64_t n = domstat_load64((uint64_t *)(raw + WRITTEN));
    if (typed) {
        if (domstat_plan_of(&options, &plan))
            return 1;
        snprintf(path, sizeof(path), "%s/region.new", argv[2]);
        snprintf(done, sizeof(done), "%s/region", argv[2]);
        void *region = map(path, O_CREAT | O_EXCL, plan.len);
        if (region == MAP_FAILED)
            return 1;
        domstat_init(region, &plan, 7);
        vcpu = domstat_vcpu_at(region, &plan, 0);
        write_runstate(vcpu, n);
        domstat_go_live(region);
        if (rename(path, done) != 0)
            return 1;
    }
    for (;;) {
        n++;
        for (unsigned i = 0; i < PAYLOAD; i++)
            words[i] = n * (2 * i + 3);
        domstat_write_copy(raw + SINGLE, words, PAYLOAD, n);
        domstat_write_words(&active, 3, raw + FIRST, raw + SECOND, words, PAYLOAD, n);
        if (vcpu)
            write_runstate(vcpu, n);
        __atomic_store_n((uint64_t *)(raw + WRITTEN), n, __ATOMIC_RELEASE);
        /* Readers meet a writer that pauses for a while and one that does not. */
        for (volatile uint64_t i = 0; typed && i < n % 8; i++)
            ;
        if (n % 65536 == 0 && getppid() != parent)
            return 0;
    }
}
