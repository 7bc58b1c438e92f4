/* What the headers decide without a region: reads packets of one kind from standard input and answers
 * each with a line.
 *
 *     reads names       a length (u8) and so many bytes: whether a domain may have the name
 *     reads runstate    now, then the group: the four times as of now
 *     reads twins       seq of both copies, the bits: what is read, and of which copy
 *     reads records     a length (u64) and a region: where the records of each kind lie, or "refused"
 *     reads shares      the same: every group that devices have shares of, of every device */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "r5.h"

#include "publish.h"
#include "shares.h"

static int names(void)
{
    char name[256];
    int len;
    while ((len = getchar()) != EOF) {
        if (fread(name, 1, (size_t)len, stdin) != (size_t)len)
            return 1;
        name[len] = '\0';
        printf("%d\n", domstat_is_name(name));
    }
    return 0;
}

static int runstates(void)
{
    struct {
        uint64_t now;
        struct domstat_vcpu_runstate runstate;
    } packet;
    while (fread(&packet, sizeof(packet), 1, stdin) == 1) {
        domstat_runstate_at(&packet.runstate, packet.now);
        printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", packet.runstate.running_ns,
               packet.runstate.runnable_ns, packet.runstate.blocked_ns, packet.runstate.offline_ns);
    }
    return 0;
}

static int twins(void)
{
    static struct domstat_vcpu vcpu;
    uint64_t packet[3];
    while (fread(packet, sizeof(packet), 1, stdin) == 1) {
        struct domstat_vcpu_runstate copy;
        vcpu.runstate.seq = (uint32_t)packet[0];
        vcpu.runstate_twin.seq = (uint32_t)packet[1];
        vcpu.header.stats_active = packet[2];
        vcpu.runstate.running_ns = 1;
        vcpu.runstate_twin.running_ns = 2;
        int found = domstat_read_twins(
            (const char *)&vcpu, sizeof(vcpu), &vcpu.header.stats_active, DOMSTAT_VCPU_RUNSTATE_BIT,
            offsetof(struct domstat_vcpu, runstate), DOMSTAT_VCPU_RUNSTATE_TWIN_BIT,
            offsetof(struct domstat_vcpu, runstate_twin), sizeof(copy), &copy);
        printf("%d %d\n", found, found == 1 ? (int)copy.running_ns : 0);
    }
    return 0;
}

static int records(void)
{
    uint64_t len;
    while (fread(&len, sizeof(len), 1, stdin) == 1) {
        struct domstat_array arrays[DOMSTAT_LAST_KIND + 1];
        struct domstat_geometry geometry;
        char *map = (char *)malloc(len);
        if (!map || fread(map, 1, len, stdin) != len)
            return 1;
        if (domstat_attach(map, len, &geometry) ||
            domstat_attach_records(map, len, &geometry, arrays)) {
            printf("refused\n");
        } else {
            for (uint32_t kind = 1; kind <= DOMSTAT_LAST_KIND; kind++)
                if (arrays[kind].nr)
                    printf("%" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu32 " ", kind,
                           arrays[kind].offs, arrays[kind].size, arrays[kind].stride,
                           arrays[kind].nr);
            printf("\n");
        }
        free(map);
    }
    return 0;
}

/* The device's own group, where none of its shares has it. */
struct own {
    const struct domstat_shared *shared;
    uint32_t kind, bit;
    size_t offset;
};

#define OWN(group, GROUP)                                                                          \
    {&domstat_blk_shared_##group, 3, DOMSTAT_BLK_##GROUP##_BIT, offsetof(struct domstat_blk, group)}
#define HIST(group, GROUP)                                                                         \
    {&domstat_blk_shared_##group, 12, DOMSTAT_BLK_HIST_##GROUP##_BIT,                              \
     offsetof(struct domstat_blk_hist_record, group)}

static const struct own owns[] = {
    OWN(io, IO),
    OWN(io_times, IO_TIMES),
    OWN(queue, QUEUE),
    OWN(discards, DISCARDS),
    OWN(failures, FAILURES),
    HIST(rd_latency, RD_LATENCY),
    HIST(wr_latency, WR_LATENCY),
    HIST(fl_latency, FL_LATENCY),
    HIST(rd_size, RD_SIZE),
    HIST(wr_size, WR_SIZE),
    {&domstat_net_shared_io, 4, DOMSTAT_NET_IO_BIT, offsetof(struct domstat_net, io)},
};

static int shares(void)
{
    uint64_t len;
    while (fread(&len, sizeof(len), 1, stdin) == 1) {
        struct domstat_array arrays[DOMSTAT_LAST_KIND + 1];
        struct domstat_geometry geometry;
        char *map = (char *)malloc(len);
        if (!map || fread(map, 1, len, stdin) != len || domstat_attach(map, len, &geometry) ||
            domstat_attach_records(map, len, &geometry, arrays))
            return 1;
        for (size_t i = 0; i < sizeof(owns) / sizeof(*owns); i++) {
            const struct own *own = &owns[i];
            const struct domstat_shared *shared = own->shared;
            for (uint32_t device = 0; device < arrays[shared->device_kind].nr; device++) {
                struct domstat_blk_queue_rd_latency sum;
                const uint64_t *words = (const uint64_t *)(const void *)&sum;
                int found = domstat_sum_shares(map, arrays, shared, device, &sum);
                if (found == DOMSTAT_NO_SHARE) {
                    const char *record = domstat_record(map, &arrays[own->kind], device);
                    found = arrays[own->kind].nr == 0 ? 0
                                                      : domstat_read_group(
                                                            record, arrays[own->kind].size,
                                                            domstat_active(record), own->bit,
                                                            own->offset, shared->size, &sum);
                }
                if (found != 1)
                    printf("%s", found == 0 ? "none" : "busy");
                for (size_t w = 1; found == 1 && w < shared->size / 8; w++)
                    printf("%" PRIu64 " ", words[w]);
                printf("\n");
            }
        }
        printf("\n");
        free(map);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    return strcmp(argv[1], "names") == 0      ? names()
           : strcmp(argv[1], "runstate") == 0 ? runstates()
           : strcmp(argv[1], "twins") == 0    ? twins()
           : strcmp(argv[1], "records") == 0  ? records()
           : strcmp(argv[1], "shares") == 0   ? shares()
                                              : 2;
}
