/* Writes a region as a build of one revision does, with write.h:
 *
 *     producer FILE packed|pages ALIGN [golden]
 *
 * Prints `ready` when it is published, and retires it when its input ends. `golden` adds arch slots and
 * the description of all groups, as the golden regions have them. */
#define _GNU_SOURCE
#include "peer.h"

#include "write.h"

/* Second copies are written with the first; identity and labels when the region is made. */
#define domstat_write_vcpu_runstate_twin(record, copy, now) (void)0
#define domstat_write_vcpu_sched_twin(record, copy, now) (void)0
#define domstat_write_blk_io_twin(record, copy, now) (void)0
#define domstat_write_dom_identity(record, copy, now) (void)0
#define domstat_write_labels_labels(record, copy, now) (void)0

#define G(group) G2(group, group)
#define G2(group, first) { __typeof__(record->group) copy; \
    memset(&copy, 0, sizeof copy); \
    const size_t base = (size_t)((char *)&record->first - (char *)record); \
    (void)base, (void)kind, (void)index;
#define OFFSET(field) (base + (size_t)((char *)&copy.field - (char *)&copy))
#define F(group, field) copy.field = number(kind, index, OFFSET(field));
#define S(group, field, n) copy.field = index % (n);
#define T(group, field, n) snprintf(copy.field, n, "name-%u-%u", kind, index);
#define A(group, field, as) copy.field = number(kind, index, OFFSET(as));
#define L(group, field) snprintf(copy.field, sizeof copy.field, "key=value\n");
#define D(group, sum, max, buckets, n) \
    copy.sum = (index + 1) * recorded(bit); \
    copy.max = recorded(bit); \
    copy.buckets[bucket(bit)] = index + 1;
#define U(group, field) memset(copy.field, 7, 16);
/* Bits are given out in order. */
#define E(group) PASTE(KIND, group)(record, &copy, 1); bit++; (void)copy; }
#define PASTE(kind, group) PASTE_(kind, group)
#define PASTE_(kind, group) domstat_write_##kind##_##group

static void write_dom(struct domstat_dom *record)
{
    const unsigned kind = DOM, index = 0;
    unsigned bit = 0;
#define KIND dom
#define FIELDS_OF_DOM
#include "fields.h"
#undef FIELDS_OF_DOM
#undef KIND
}

static void write_vcpu(struct domstat_vcpu *record, unsigned index)
{
    const unsigned kind = VCPU;
    unsigned bit = 0;
#define KIND vcpu
#define FIELDS_OF_VCPU
#include "fields.h"
#undef FIELDS_OF_VCPU
#undef KIND
}

#if DOMSTAT_REVISION >= 2
static void write_blk(struct domstat_blk *record, unsigned index)
{
    const unsigned kind = BLK;
    unsigned bit = 0;
#define KIND blk
#define FIELDS_OF_BLK
#include "fields.h"
#undef FIELDS_OF_BLK
#undef KIND
}
#endif

#if DOMSTAT_REVISION >= 4
static void write_net(struct domstat_net *record, unsigned index)
{
    const unsigned kind = NET;
    unsigned bit = 0;
#define KIND net
#define FIELDS_OF_NET
#include "fields.h"
#undef FIELDS_OF_NET
#undef KIND
}
#endif

#if DOMSTAT_REVISION >= 5
static void write_blk_queue(struct domstat_blk_queue_record *record, unsigned index)
{
    const unsigned kind = BLK_QUEUE;
    unsigned bit = 0;
#define KIND blk_queue
#define FIELDS_OF_BLK_QUEUE
#include "fields.h"
#undef FIELDS_OF_BLK_QUEUE
#undef KIND
}

static void write_net_queue(struct domstat_net_queue_record *record, unsigned index)
{
    const unsigned kind = NET_QUEUE;
    unsigned bit = 0;
#define KIND net_queue
#define FIELDS_OF_NET_QUEUE
#include "fields.h"
#undef FIELDS_OF_NET_QUEUE
#undef KIND
}

static void write_vcpu_hist(struct domstat_vcpu_hist_record *record, unsigned index)
{
    const unsigned kind = VCPU_HIST;
    unsigned bit = 0;
#define KIND vcpu_hist
#define FIELDS_OF_VCPU_HIST
#include "fields.h"
#undef FIELDS_OF_VCPU_HIST
#undef KIND
}

static void write_blk_hist(struct domstat_blk_hist_record *record, unsigned index)
{
    const unsigned kind = BLK_HIST;
    unsigned bit = 0;
#define KIND blk_hist
#define FIELDS_OF_BLK_HIST
#include "fields.h"
#undef FIELDS_OF_BLK_HIST
#undef KIND
}
#endif

/* As tests/src/golden.rs describes and fills arch slots. */
static void write_arch_slots(void *map, const struct domstat_plan *plan)
{
    static const uint32_t kinds[] = { DOMSTAT_KIND_ARCH_DOM, DOMSTAT_KIND_ARCH_VCPU,
                                      DOMSTAT_KIND_ARCH_BLK, DOMSTAT_KIND_ARCH_NET };
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const uint64_t exits = 5 + i;
        for (uint32_t slot = 0; slot < plan->arrays[kinds[i]].nr; slot++)
            domstat_write_arch(map, plan, kinds[i], slot, 0, &exits, 1);
    }
}

int main(int argc, char **argv)
{
    static const struct domstat_arch_field exits = { "exits", 1, 0, 0 };
    static const struct domstat_arch_group kvm = { "kvm", &exits, 1 };
    static const struct domstat_arch arch = { &kvm, 1 };
    static const uint8_t uuid[16] = { 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7 };
    struct domstat_options options = domstat_options_of("name-1-0");
    struct domstat_plan plan;
    const char *why;
    if (argc < 4)
        return 2;
    const int golden = argc > 4;
    options.domid = number(DOM, 0, 144);
    options.created_ns = number(DOM, 0, 296);
    options.uuid = uuid;
    options.clock = DOMSTAT_CLOCK_UNKNOWN;
    options.page_size = (uint32_t)sysconf(_SC_PAGESIZE);
    options.align = (uint32_t)strtoul(argv[3], NULL, 10);
    options.nr_vcpus = NR_VCPUS;
    options.nr_blks = DOMSTAT_REVISION >= 2 ? NR_BLKS : 0;
    options.nr_nets = DOMSTAT_REVISION >= 4 ? NR_NETS : 0;
    if (DOMSTAT_REVISION >= 5) {
        options.nr_blk_queues = NR_BLK_QUEUES;
        options.nr_net_queues = NR_NET_QUEUES;
        options.vcpu_hists = options.blk_hists = 1;
        options.labels = "key=value\n";
    }
    if (golden && DOMSTAT_REVISION >= 4)
        options.arch_dom = options.arch_vcpu = arch;
    if (golden && DOMSTAT_REVISION >= 5)
        options.arch_blk = options.arch_net = arch;
    options.no_schema = !golden;
    if (strcmp(argv[2], "pages") == 0 && options.align >= options.page_size)
        options.pages = 1;
    else if (strcmp(argv[2], "pages") == 0)
        /* Whole pages, although the header promises less. */
        options.vcpu_offs = options.vcpu_stride = options.page_size;
    if ((why = domstat_plan_of(&options, &plan)) != NULL) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }

    int fd = open(argv[1], O_RDWR | O_CREAT | O_EXCL, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)plan.len) != 0)
        fail(argv[1]);
    void *map = mmap(NULL, plan.len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        fail("mmap");
    domstat_init(map, &plan, 77);
    write_dom(domstat_dom_at(map, &plan, 0));
    for (unsigned i = 0; i < NR_VCPUS; i++)
        write_vcpu(domstat_vcpu_at(map, &plan, i), i);
#if DOMSTAT_REVISION >= 2
    for (unsigned i = 0; i < NR_BLKS; i++)
        write_blk(domstat_blk_at(map, &plan, i), i);
#endif
#if DOMSTAT_REVISION >= 4
    for (unsigned i = 0; i < NR_NETS; i++)
        write_net(domstat_net_at(map, &plan, i), i);
#endif
#if DOMSTAT_REVISION >= 5
    for (unsigned i = 0; i < NR_BLK_QUEUES; i++)
        write_blk_queue(domstat_blk_queue_at(map, &plan, i), i);
    for (unsigned i = 0; i < NR_NET_QUEUES; i++)
        write_net_queue(domstat_net_queue_at(map, &plan, i), i);
    for (unsigned i = 0; i < NR_VCPUS; i++)
        write_vcpu_hist(domstat_vcpu_hist_at(map, &plan, i), i);
    for (unsigned i = 0; i < NR_BLKS; i++)
        write_blk_hist(domstat_blk_hist_at(map, &plan, i), i);
#endif
    write_arch_slots(map, &plan);
    domstat_go_live(map);

    puts("ready");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    domstat_mark_retired(map);
    return 0;
}
