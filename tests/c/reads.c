/* What the headers decide without a region: reads packets of one kind from standard input and answers
 * each with a line.
 *
 *     reads names       a length (u8) and so many bytes: whether a domain may have the name
 *     reads runstate    now, then the group: the four times as of now
 *     reads twins       seq of both copies, the bits: what is read, and of which copy
 *     reads records     a length (u64) and a region: where the records of each kind lie, or "refused" */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "r5.h"

#include "publish.h"

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

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    return strcmp(argv[1], "names") == 0      ? names()
           : strcmp(argv[1], "runstate") == 0 ? runstates()
           : strcmp(argv[1], "twins") == 0    ? twins()
           : strcmp(argv[1], "records") == 0  ? records()
                                              : 2;
}
