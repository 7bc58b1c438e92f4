/* A reader in C: prints what each vCPU of a domain did, once a second.
 *
 *     cc -std=gnu11 -O2 -I layout/include/domstat layout/examples/read.c -o read
 *     ./read /run/domstat/web1.domstat [SAMPLES]
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "r1.h" /* the oldest revision that has the groups we want: every region has them */

#include "region.h"

static void print(const void *map, const struct domstat_geometry *geometry)
{
    for (uint32_t i = 0; i < geometry->vcpus.nr; i++) {
        const char *vcpu = domstat_record(map, &geometry->vcpus, i);
        struct domstat_vcpu_runstate runstate;
        switch (domstat_read_group(vcpu, geometry->vcpus.size, domstat_active(vcpu),
                                   DOMSTAT_VCPU_RUNSTATE_BIT,
                                   offsetof(struct domstat_vcpu, runstate), sizeof(runstate),
                                   &runstate)) {
        case 1:
            printf("vCPU %" PRIu32 ":", i);
            /* A word may say "not produced" or "saturated": neither is a number. */
            if (runstate.running_ns < DOMSTAT_SATURATED)
                printf(" ran %" PRIu64 " ns", runstate.running_ns);
            if (runstate.runnable_ns < DOMSTAT_SATURATED)
                printf(", waited %" PRIu64 " ns", runstate.runnable_ns);
            printf("\n");
            break;
        case 0:
            break; /* no such vCPU at present */
        default:
            printf("vCPU %" PRIu32 ": its writer stopped halfway through an update\n", i);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s REGION [SAMPLES]\n", argv[0]);
        return 2;
    }
    long samples = argc > 2 ? atol(argv[2]) : -1;
    struct stat status;
    int fd = open(argv[1], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &status) < 0) {
        perror(argv[1]);
        return 1;
    }
    if (!S_ISREG(status.st_mode) || status.st_size > DOMSTAT_MAX_REGION_LEN) {
        fprintf(stderr, "%s: not a domstat region\n", argv[1]);
        return 1;
    }
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK))
        fprintf(stderr, "%s: not sealed: if it is truncated, SIGBUS ends this program\n", argv[1]);
    size_t len = (size_t)status.st_size;
    const void *map = mmap(NULL, len ? len : 1, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        perror(argv[1]);
        return 1;
    }
    struct domstat_geometry geometry;
    const char *error = domstat_attach(map, len, &geometry);
    if (error) {
        fprintf(stderr, "%s: %s\n", argv[1], error);
        return 1;
    }
    while (domstat_state(map) == DOMSTAT_STATE_LIVE && samples != 0) {
        print(map, &geometry);
        fflush(stdout);
        if (samples > 0 && --samples == 0)
            return 0;
        sleep(1);
    }
    printf("the domain has ended\n");
    return 0;
}
