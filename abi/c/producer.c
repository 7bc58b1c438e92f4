/* Writes a region as a build of one revision does: producer FILE packed|pages ALIGN. Prints `ready`
 * when it is published, and retires it when its input ends. */
#define _GNU_SOURCE
#include "peer.h"

static size_t round_up(size_t n, size_t align)
{
    return (n + align - 1) / align * align;
}

/* Writes a group's words from a private copy, as of time 1. */
static void publish_group(void *to, const void *from, size_t size)
{
    uint32_t *seq = to;
    uint64_t *words = (uint64_t *)to + 1;
    const uint64_t *copy = (const uint64_t *)from + 1;
    uint32_t odd = (load32(seq) + 1) | 1;
    store32(seq, odd);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    for (size_t i = 0; i < size / 8 - 1; i++)
        store64(&words[i], copy[i]);
    __atomic_store_n(seq, odd + 1, __ATOMIC_RELEASE);
}

static inline unsigned popcount(uint64_t bits)
{
    return (unsigned)__builtin_popcountll(bits);
}

#define G(group) G2(group, group)
#define G2(group, first) { __typeof__(record->group) copy; \
    memset(&copy, 0, sizeof copy); \
    copy.updated_ns = 1; \
    const size_t base = (size_t)((char *)&record->first - (char *)record); \
    (void)base, (void)kind, (void)index;
#define OFFSET(field) (base + (size_t)((char *)&copy.field - (char *)&copy))
#define F(group, field) copy.field = number(kind, index, OFFSET(field));
#define S(group, field, n) copy.field = index % (n);
#define T(group, field, n) snprintf(copy.field, n, "name-%u-%u", kind, index);
#define A(group, field, as) copy.field = number(kind, index, OFFSET(as));
#define L(group, field) snprintf(copy.field, sizeof copy.field, "key=value\n");
#define D(group, sum, max, buckets, n) { const unsigned bit = popcount(active); \
    copy.sum = (index + 1) * recorded(bit); \
    copy.max = recorded(bit); \
    copy.buckets[bucket(bit)] = index + 1; }
#define U(group, field) memset(copy.field, 7, 16);
/* Bits are given out in order. */
#define E(group) publish_group(&record->group, &copy, sizeof copy); active = active << 1 | 1; }

static uint64_t write_dom(struct domstat_dom *record)
{
    const unsigned kind = DOM, index = 0;
    uint64_t active = 0;
#define FIELDS_OF_DOM
#include "fields.h"
#undef FIELDS_OF_DOM
    return active;
}

static uint64_t write_vcpu(struct domstat_vcpu *record, unsigned index)
{
    const unsigned kind = VCPU;
    uint64_t active = 0;
#define FIELDS_OF_VCPU
#include "fields.h"
#undef FIELDS_OF_VCPU
    return active;
}

#if DOMSTAT_REVISION >= 2
static uint64_t write_blk(struct domstat_blk *record, unsigned index)
{
    const unsigned kind = BLK;
    uint64_t active = 0;
#define FIELDS_OF_BLK
#include "fields.h"
#undef FIELDS_OF_BLK
    return active;
}
#endif

#if DOMSTAT_REVISION >= 4
static uint64_t write_net(struct domstat_net *record, unsigned index)
{
    const unsigned kind = NET;
    uint64_t active = 0;
#define FIELDS_OF_NET
#include "fields.h"
#undef FIELDS_OF_NET
    return active;
}
#endif

#if DOMSTAT_REVISION >= 5
static uint64_t write_blk_queue(struct domstat_blk_queue_record *record, unsigned index)
{
    const unsigned kind = BLK_QUEUE;
    uint64_t active = 0;
#define FIELDS_OF_BLK_QUEUE
#include "fields.h"
#undef FIELDS_OF_BLK_QUEUE
    return active;
}

static uint64_t write_net_queue(struct domstat_net_queue_record *record, unsigned index)
{
    const unsigned kind = NET_QUEUE;
    uint64_t active = 0;
#define FIELDS_OF_NET_QUEUE
#include "fields.h"
#undef FIELDS_OF_NET_QUEUE
    return active;
}

static uint64_t write_vcpu_hist(struct domstat_vcpu_hist_record *record, unsigned index)
{
    const unsigned kind = VCPU_HIST;
    uint64_t active = 0;
#define FIELDS_OF_VCPU_HIST
#include "fields.h"
#undef FIELDS_OF_VCPU_HIST
    return active;
}

static uint64_t write_blk_hist(struct domstat_blk_hist_record *record, unsigned index)
{
    const unsigned kind = BLK_HIST;
    uint64_t active = 0;
#define FIELDS_OF_BLK_HIST
#include "fields.h"
#undef FIELDS_OF_BLK_HIST
    return active;
}

static uint64_t write_labels(struct domstat_labels_record *record, unsigned index)
{
    const unsigned kind = LABELS;
    uint64_t active = 0;
#define FIELDS_OF_LABELS
#include "fields.h"
#undef FIELDS_OF_LABELS
    return active;
}

/* A kind of record beyond the header: where its records lie. */
struct beyond {
    uint32_t kind, offs, size, stride, nr;
};

static struct beyond place(uint32_t kind, size_t size, uint32_t nr, size_t step, size_t *end)
{
    const size_t stride = round_up(size, step);
    const struct beyond b = { kind, (uint32_t)*end, (uint32_t)size, (uint32_t)stride, nr };
    *end += nr * stride;
    return b;
}
#endif

static void start_record(struct domstat_record_header *header, uint32_t magic, unsigned index,
                         uint64_t active)
{
    store32(&header->magic, magic);
    store32(&header->index, index);
    store64(&header->stats_active, active);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    const size_t align = strtoul(argv[3], NULL, 10);
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t step = strcmp(argv[2], "pages") == 0 ? (align > page ? align : page) : align;

    const size_t vcpu_offs = round_up(sizeof(struct domstat_dom), step);
    const size_t vcpu_stride = round_up(sizeof(struct domstat_vcpu), step);
    size_t end = vcpu_offs + NR_VCPUS * vcpu_stride;
#if DOMSTAT_REVISION >= 2
    const size_t blk_offs = end, blk_stride = round_up(sizeof(struct domstat_blk), step);
    end += NR_BLKS * blk_stride;
#endif
#if DOMSTAT_REVISION >= 4
    const size_t net_offs = end, net_stride = round_up(sizeof(struct domstat_net), step);
    end += NR_NETS * net_stride;
#endif
#if DOMSTAT_REVISION >= 5
    const struct beyond beyond[] = {
        place(BLK_QUEUE, sizeof(struct domstat_blk_queue_record), NR_BLK_QUEUES, step, &end),
        place(NET_QUEUE, sizeof(struct domstat_net_queue_record), NR_NET_QUEUES, step, &end),
        place(VCPU_HIST, sizeof(struct domstat_vcpu_hist_record), NR_VCPUS, step, &end),
        place(BLK_HIST, sizeof(struct domstat_blk_hist_record), NR_BLKS, step, &end),
        place(LABELS, sizeof(struct domstat_labels_record), 1, step, &end),
    };
    enum { NR_BEYOND = sizeof beyond / sizeof *beyond };
    /* As short as its table of records, and last, so that the header says where the region ends. */
    const size_t schema_offs = end;
    const size_t schema_size = (SCHEMA_HEADER + NR_BEYOND * ENTRY_WORDS) * sizeof(uint32_t);
    end += schema_size;
#endif
    const size_t len = round_up(end, page);

    int fd = open(argv[1], O_RDWR | O_CREAT | O_EXCL, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)len) != 0)
        fail(argv[1]);
    char *region = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (region == MAP_FAILED)
        fail("mmap");

    struct domstat_dom *dom = (struct domstat_dom *)region;
    struct domstat_dom_header *h = &dom->header;
    store32(&h->dom_size, sizeof(struct domstat_dom));
    store32(&h->vcpu_offs, (uint32_t)vcpu_offs);
    store32(&h->vcpu_size, sizeof(struct domstat_vcpu));
    store32(&h->vcpu_stride, (uint32_t)vcpu_stride);
    store32(&h->nr_vcpus, NR_VCPUS);
    store32(&h->align, (uint32_t)align);
    store64(&h->incarnation, 77);
    store32(&h->revision, DOMSTAT_REVISION);
    store32(&h->clock, DOMSTAT_CLOCK_UNKNOWN);
    store64(&h->stats_active, write_dom(dom));
    for (unsigned i = 0; i < NR_VCPUS; i++) {
        struct domstat_vcpu *vcpu = (struct domstat_vcpu *)(region + vcpu_offs + i * vcpu_stride);
        start_record(&vcpu->header, DOMSTAT_VCPU_MAGIC, i, write_vcpu(vcpu, i));
    }
#if DOMSTAT_REVISION >= 2
    store32(&h->blk_offs, (uint32_t)blk_offs);
    store32(&h->blk_size, sizeof(struct domstat_blk));
    store32(&h->blk_stride, (uint32_t)blk_stride);
    store32(&h->nr_blks, NR_BLKS);
    for (unsigned i = 0; i < NR_BLKS; i++) {
        struct domstat_blk *blk = (struct domstat_blk *)(region + blk_offs + i * blk_stride);
        start_record(&blk->header, DOMSTAT_BLK_MAGIC, i, write_blk(blk, i));
    }
#endif
#if DOMSTAT_REVISION >= 4
    store32(&h->net_offs, (uint32_t)net_offs);
    store32(&h->net_size, sizeof(struct domstat_net));
    store32(&h->net_stride, (uint32_t)net_stride);
    store32(&h->nr_nets, NR_NETS);
    for (unsigned i = 0; i < NR_NETS; i++) {
        struct domstat_net *net = (struct domstat_net *)(region + net_offs + i * net_stride);
        start_record(&net->header, DOMSTAT_NET_MAGIC, i, write_net(net, i));
    }
#endif
#if DOMSTAT_REVISION >= 5
    for (unsigned i = 0; i < NR_BLK_QUEUES; i++) {
        struct domstat_blk_queue_record *record =
            (struct domstat_blk_queue_record *)(region + beyond[0].offs + i * beyond[0].stride);
        start_record(&record->header, DOMSTAT_BLK_QUEUE_MAGIC, i, write_blk_queue(record, i));
    }
    for (unsigned i = 0; i < NR_NET_QUEUES; i++) {
        struct domstat_net_queue_record *record =
            (struct domstat_net_queue_record *)(region + beyond[1].offs + i * beyond[1].stride);
        start_record(&record->header, DOMSTAT_NET_QUEUE_MAGIC, i, write_net_queue(record, i));
    }
    for (unsigned i = 0; i < NR_VCPUS; i++) {
        struct domstat_vcpu_hist_record *record =
            (struct domstat_vcpu_hist_record *)(region + beyond[2].offs + i * beyond[2].stride);
        start_record(&record->header, DOMSTAT_VCPU_HIST_MAGIC, i, write_vcpu_hist(record, i));
    }
    for (unsigned i = 0; i < NR_BLKS; i++) {
        struct domstat_blk_hist_record *record =
            (struct domstat_blk_hist_record *)(region + beyond[3].offs + i * beyond[3].stride);
        start_record(&record->header, DOMSTAT_BLK_HIST_MAGIC, i, write_blk_hist(record, i));
    }
    for (unsigned i = 0; i < 1; i++) {
        struct domstat_labels_record *record =
            (struct domstat_labels_record *)(region + beyond[4].offs + i * beyond[4].stride);
        start_record(&record->header, DOMSTAT_LABELS_MAGIC, i, write_labels(record, i));
    }
    store32(&h->schema_offs, (uint32_t)schema_offs);
    store32(&h->schema_size, (uint32_t)schema_size);
    uint32_t *schema = (uint32_t *)(region + schema_offs);
    store32(&schema[SCHEMA_MAGIC], DOMSTAT_SCHEMA_MAGIC);
    store32(&schema[SCHEMA_NR], NR_BEYOND);
    store32(&schema[SCHEMA_LEN], ENTRY_WORDS * sizeof(uint32_t));
    for (unsigned i = 0; i < NR_BEYOND; i++) {
        uint32_t *entry = schema + SCHEMA_HEADER + i * ENTRY_WORDS;
        store32(&entry[ENTRY_KIND], beyond[i].kind);
        store32(&entry[ENTRY_OFFS], beyond[i].offs);
        store32(&entry[ENTRY_SIZE], beyond[i].size);
        store32(&entry[ENTRY_STRIDE], beyond[i].stride);
        store32(&entry[ENTRY_NR], beyond[i].nr);
        store32(&entry[ENTRY_ACTIVE], offsetof(struct domstat_record_header, stats_active));
        store32(&entry[ENTRY_HEADER], sizeof(struct domstat_record_header));
    }
#endif
    store32(&h->state, DOMSTAT_STATE_LIVE);
    __atomic_store_n(&h->magic, DOMSTAT_DOM_MAGIC, __ATOMIC_RELEASE);

    puts("ready");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    __atomic_store_n(&h->state, DOMSTAT_STATE_RETIRED, __ATOMIC_RELEASE);
    return 0;
}
