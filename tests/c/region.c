/* Makes regions with write.h: for each line of standard input, which has the options as numbers, a line
 * with the length of the region and a checksum (FNV-1a) of its bytes, or "refused". */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include REVISION_HEADER

#include "write.h"

enum { NAME, VCPUS, BLKS, NETS, BLK_QUEUES, NET_QUEUES, VCPU_HISTS, BLK_HISTS, LABELS, PAGES, ALIGN,
       VCPU_OFFS, VCPU_STRIDE, NO_SCHEMA, ARCH_DOM, ARCH_VCPU, ARCH_BLK, ARCH_NET, NR_OPTIONS };

/* One of each length, the last too long. */
static const char *const names[] = {
    "web1", "\xc3\xbc",
    ("0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
     "01234567890123456789012345\xc3\xbc"),
};

int main(void)
{
    static const struct domstat_arch_field fields[] = {
        {"exits", 1, 0, 0}, {"bytes", 2, 1, 3}, {"domid", 1, 2, -9}};
    static const struct domstat_arch_group groups[] = {{"kvm", fields, 1}, {"own", fields, 3}};
    unsigned in[NR_OPTIONS];
    for (;;) {
        for (int i = 0; i < NR_OPTIONS; i++)
            if (scanf("%u", &in[i]) != 1)
                return i == 0 ? 0 : 1;
        struct domstat_options o = domstat_options_of(names[in[NAME]]);
        struct domstat_arch *const arch[] = {&o.arch_dom, &o.arch_vcpu, &o.arch_blk, &o.arch_net};
        struct domstat_plan plan;
        o.nr_vcpus = in[VCPUS];
        o.nr_blks = in[BLKS];
        o.nr_nets = in[NETS];
        o.nr_blk_queues = in[BLK_QUEUES];
        o.nr_net_queues = in[NET_QUEUES];
        o.vcpu_hists = (int)in[VCPU_HISTS];
        o.blk_hists = (int)in[BLK_HISTS];
        o.labels = in[LABELS] ? "tenant=acme\nproject=web shop\n" : NULL;
        o.pages = (int)in[PAGES];
        o.align = in[ALIGN];
        o.vcpu_offs = in[VCPU_OFFS];
        o.vcpu_stride = in[VCPU_STRIDE];
        o.no_schema = (int)in[NO_SCHEMA];
        for (int i = 0; i < 4; i++) {
            arch[i]->groups = groups;
            arch[i]->nr_groups = in[ARCH_DOM + i];
        }
        if (domstat_plan_of(&o, &plan)) {
            printf("refused\n");
            continue;
        }
        unsigned char *map = (unsigned char *)aligned_alloc(64, plan.len);
        uint64_t sum = 0xcbf29ce484222325u;
        if (!map)
            return 1;
        /* What was there before does not matter. */
        for (size_t i = 0; i < plan.len; i++)
            map[i] = 0x5a;
        domstat_init(map, &plan, 77);
        domstat_go_live(map);
        for (size_t i = 0; i < plan.len; i++)
            sum = (sum ^ map[i]) * 0x100000001b3u;
        printf("%" PRIu64 " %" PRIu64 "\n", plan.len, sum);
        free(map);
    }
}
