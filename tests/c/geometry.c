/* Judges headers with region.h: reads packets of a length (u64) and 128 bytes from standard input, and
 * answers each with a line, "refused" or the geometry's numbers. */
#include <inttypes.h>
#include <stdio.h>

#include "r4.h"

#include "region.h"

static void array(const struct domstat_array *a)
{
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu32 " ", a->offs, a->size, a->stride, a->nr);
}

static void section(const struct domstat_section *s)
{
    printf("%" PRIu64 " %" PRIu64 " ", s->offs, s->size);
}

int main(void)
{
    struct {
        uint64_t len;
        uint64_t header[16];
    } packet;
    while (fread(&packet, sizeof(packet), 1, stdin) == 1) {
        struct domstat_geometry g;
        if (domstat_attach(packet.header, packet.len, &g)) {
            printf("refused\n");
            continue;
        }
        printf("%" PRIu64 " ", g.dom_size);
        array(&g.vcpus);
        array(&g.blks);
        array(&g.nets);
        section(&g.arch_dom);
        section(&g.arch_vcpu);
        section(&g.schema);
        printf("%" PRIu64 " %" PRIu32 " %" PRIu32 "\n", g.incarnation, g.revision, g.clock);
    }
    return 0;
}
