/* Reads a region as a build of one revision does, of any producer: consumer FILE. Prints a line for
 * each field that this revision knows, of as many records as the test has. `consumer FILE N` reads
 * vCPU 0's runstate N times instead and prints the nanoseconds that one read took. */
#define _GNU_SOURCE
#include "peer.h"
#include "read.h"

#include <time.h>

static void print_number(uint64_t value)
{
    if (value == DOMSTAT_NOT_PRODUCED)
        puts("not produced");
    else if (value == DOMSTAT_SATURATED)
        puts("saturated");
    else
        printf("%llu\n", (unsigned long long)value);
}

#define PREFIX(group, field) printf("%s[%u]." #group "." #field " ", name, index)
#define G(group) { struct PASTE(RECORD, group) copy; \
    memset(&copy, 0xff, sizeof copy); \
    int have = record != NULL && domstat_read_group(record, size, active, BIT(group), \
        OFFSET(group), sizeof copy, &copy) == 1;
#define G2(group, first) G(group)
#define F(group, field) PREFIX(group, field); print_number(have ? copy.field : DOMSTAT_NOT_PRODUCED);
#define S(group, field, n) F(group, field)
#define A(group, field, as) F(group, field)
#define T(group, field, n) PREFIX(group, field); \
    printf("%.*s\n", (n) - 1, have ? copy.field : "not produced");
/* On one line. */
#define L(group, field) PREFIX(group, field); \
    for (size_t i = 0; i < sizeof copy.field; i++) \
        if (copy.field[i] == '\n') copy.field[i] = ';'; \
    printf("%.*s\n", (int)sizeof copy.field - 1, have ? copy.field : "not produced");
#define D(group, sum, max, buckets, n) F(group, sum) F(group, max) PREFIX(group, buckets); \
    for (int i = 0; have && i < (n) - 1; i++) printf("%llu ", (unsigned long long)copy.buckets[i]); \
    print_number(have ? copy.buckets[(n) - 1] : DOMSTAT_NOT_PRODUCED);
#define U(group, field) PREFIX(group, field); \
    if (have) for (int i = 0; i < 16; i++) printf("%02x", copy.field[i]); \
    puts(have ? "" : "not produced");
#define E(group) }
#define PASTE(a, b) PASTE_(a, b)
#define PASTE_(a, b) a##_##b
#define OFFSET(group) offsetof(struct WHOLE, group)

/* Bits are given out in the order in which fields.h lists a record's groups. */
#define BIT(group) (bit++)

static void print_dom(const char *record, size_t size)
{
    const uint64_t *active = (const uint64_t *)(record + offsetof(struct domstat_dom_header, stats_active));
    const char *name = "dom";
    unsigned index = 0, bit = 0;
#define RECORD domstat_dom
#define WHOLE domstat_dom
#define FIELDS_OF_DOM
#include "fields.h"
#undef FIELDS_OF_DOM
#undef RECORD
#undef WHOLE
}

#define ACTIVE(record) (const uint64_t *)((record) + offsetof(struct domstat_record_header, stats_active))

static void print_vcpu(const char *record, size_t size, unsigned index)
{
    const uint64_t *active = record ? ACTIVE(record) : NULL;
    const char *name = "vcpu";
    unsigned bit = 0;
#define RECORD domstat_vcpu
#define WHOLE domstat_vcpu
#define FIELDS_OF_VCPU
#include "fields.h"
#undef FIELDS_OF_VCPU
#undef RECORD
#undef WHOLE
}

#if DOMSTAT_REVISION >= 2
static void print_blk(const char *record, size_t size, unsigned index)
{
    const uint64_t *active = record ? ACTIVE(record) : NULL;
    const char *name = "blk";
    unsigned bit = 0;
#define RECORD domstat_blk
#define WHOLE domstat_blk
#define FIELDS_OF_BLK
#include "fields.h"
#undef FIELDS_OF_BLK
#undef RECORD
#undef WHOLE
}
#endif

#if DOMSTAT_REVISION >= 4
static void print_net(const char *record, size_t size, unsigned index)
{
    const uint64_t *active = record ? ACTIVE(record) : NULL;
    const char *name = "net";
    unsigned bit = 0;
#define RECORD domstat_net
#define WHOLE domstat_net
#define FIELDS_OF_NET
#include "fields.h"
#undef FIELDS_OF_NET
#undef RECORD
#undef WHOLE
}
#endif

#if DOMSTAT_REVISION >= 5
static void print_blk_queue(const char *record, size_t size, unsigned index)
{
    const uint64_t *active = record ? ACTIVE(record) : NULL;
    const char *name = "blk_queue";
    unsigned bit = 0;
#define RECORD domstat_blk_queue
#define WHOLE domstat_blk_queue_record
#define FIELDS_OF_BLK_QUEUE
#include "fields.h"
#undef FIELDS_OF_BLK_QUEUE
#undef RECORD
#undef WHOLE
}

static void print_net_queue(const char *record, size_t size, unsigned index)
{
    const uint64_t *active = record ? ACTIVE(record) : NULL;
    const char *name = "net_queue";
    unsigned bit = 0;
#define RECORD domstat_net_queue
#define WHOLE domstat_net_queue_record
#define FIELDS_OF_NET_QUEUE
#include "fields.h"
#undef FIELDS_OF_NET_QUEUE
#undef RECORD
#undef WHOLE
}

static void print_vcpu_hist(const char *record, size_t size, unsigned index)
{
    const uint64_t *active = record ? ACTIVE(record) : NULL;
    const char *name = "vcpu_hist";
    unsigned bit = 0;
#define RECORD domstat_vcpu_hist
#define WHOLE domstat_vcpu_hist_record
#define FIELDS_OF_VCPU_HIST
#include "fields.h"
#undef FIELDS_OF_VCPU_HIST
#undef RECORD
#undef WHOLE
}

static void print_blk_hist(const char *record, size_t size, unsigned index)
{
    const uint64_t *active = record ? ACTIVE(record) : NULL;
    const char *name = "blk_hist";
    unsigned bit = 0;
#define RECORD domstat_blk_hist
#define WHOLE domstat_blk_hist_record
#define FIELDS_OF_BLK_HIST
#include "fields.h"
#undef FIELDS_OF_BLK_HIST
#undef RECORD
#undef WHOLE
}

static void print_labels(const char *record, size_t size, unsigned index)
{
    const uint64_t *active = record ? ACTIVE(record) : NULL;
    const char *name = "labels";
    unsigned bit = 0;
#define RECORD domstat_labels
#define WHOLE domstat_labels_record
#define FIELDS_OF_LABELS
#include "fields.h"
#undef FIELDS_OF_LABELS
#undef RECORD
#undef WHOLE
}
#endif

/* An array of the region, as its header alleges it and after that was checked. */
struct array {
    size_t offs, size, stride, nr;
};

static struct array checked(uint32_t offs, uint32_t size, uint32_t stride, uint32_t nr, size_t len)
{
    struct array a = { offs, size, stride, nr };
    if (nr == 0)
        return a;
    /* 32 bits each, so nothing wraps in 64. */
    uint64_t end = (uint64_t)offs + (uint64_t)nr * stride;
    if (offs % 8 || stride % 8 || size < sizeof(struct domstat_record_header) || stride < size
        || end > len) {
        fputs("the header does not fit the region\n", stderr);
        exit(1);
    }
    return a;
}

#if DOMSTAT_REVISION >= 5
/* The array of a kind beyond the header, as the schema's table of records alleges it and after that
 * was checked; none if there is no such entry. The last record may lie in the gap of another. */
static struct array beyond(const char *region, size_t offs, size_t size, uint32_t kind, size_t len)
{
    struct array none = { 0, 0, 0, 0 };
    if (size < SCHEMA_HEADER * sizeof(uint32_t) || offs > len || size > len - offs || offs % 8)
        return none;
    const uint32_t *schema = (const uint32_t *)(region + offs);
    const size_t nr = load32(&schema[SCHEMA_NR]), entry_len = load32(&schema[SCHEMA_LEN]);
    const size_t room = size - SCHEMA_HEADER * sizeof(uint32_t);
    if (entry_len < ENTRY_WORDS * sizeof(uint32_t) || entry_len % 8 || nr > room / entry_len)
        return none;
    for (size_t i = 0; i < nr; i++) {
        const uint32_t *entry = schema + SCHEMA_HEADER + i * (entry_len / sizeof(uint32_t));
        if (load32(&entry[ENTRY_KIND]) != kind)
            continue;
        struct array a = { load32(&entry[ENTRY_OFFS]), load32(&entry[ENTRY_SIZE]),
                           load32(&entry[ENTRY_STRIDE]), load32(&entry[ENTRY_NR]) };
        if (a.nr == 0 || a.offs % 8 || a.size % 8 || a.stride % 8 || a.stride < a.size
            || a.size < sizeof(struct domstat_record_header)
            || (uint64_t)a.offs + (uint64_t)(a.nr - 1) * a.stride + a.size > len)
            return none;
        return a;
    }
    return none;
}
#endif

static const char *at(const char *region, struct array a, size_t i)
{
    return i < a.nr ? region + a.offs + i * a.stride : NULL;
}

static int measure(const char *record, size_t size, unsigned long n)
{
    struct domstat_vcpu_runstate copy;
    const uint64_t *active = ACTIVE(record);
    struct timespec a, b;
    uint64_t sum = 0;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (unsigned long i = 0; i < n; i++) {
        if (domstat_read_group(record, size, active, DOMSTAT_VCPU_RUNSTATE_BIT,
                               offsetof(struct domstat_vcpu, runstate), sizeof copy, &copy) != 1)
            return 1;
        sum += copy.running_ns;
        __asm__ volatile("" : : "r"(sum) : "memory");
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    double ns = (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
    printf("%.1f\n", ns / (double)n);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    int fd = open(argv[1], O_RDONLY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        fail(argv[1]);
    const size_t len = (size_t)st.st_size;
    if (len < sizeof(struct domstat_dom_header))
        return 1;
    const char *region = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
    if (region == MAP_FAILED)
        fail("mmap");

    const struct domstat_dom_header *h = (const struct domstat_dom_header *)region;
    uint32_t magic = load32(&h->magic);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    size_t dom_size = load32(&h->dom_size);
    if (magic != DOMSTAT_DOM_MAGIC || dom_size < sizeof *h || dom_size > len)
        return 1;
    struct array vcpus = checked(load32(&h->vcpu_offs), load32(&h->vcpu_size),
                                 load32(&h->vcpu_stride), load32(&h->nr_vcpus), len);
    if (argc > 2)
        return measure(at(region, vcpus, 0), vcpus.size, strtoul(argv[2], NULL, 10));
    print_dom(region, dom_size);
    for (unsigned i = 0; i < NR_VCPUS; i++)
        print_vcpu(at(region, vcpus, i), vcpus.size, i);
#if DOMSTAT_REVISION >= 2
    struct array blks = checked(load32(&h->blk_offs), load32(&h->blk_size),
                                load32(&h->blk_stride), load32(&h->nr_blks), len);
    for (unsigned i = 0; i < NR_BLKS; i++)
        print_blk(at(region, blks, i), blks.size, i);
#endif
#if DOMSTAT_REVISION >= 4
    struct array nets = checked(load32(&h->net_offs), load32(&h->net_size),
                                load32(&h->net_stride), load32(&h->nr_nets), len);
    for (unsigned i = 0; i < NR_NETS; i++)
        print_net(at(region, nets, i), nets.size, i);
#endif
#if DOMSTAT_REVISION >= 5
    const size_t offs = load32(&h->schema_offs), size = load32(&h->schema_size);
#define PRINT(print, kind, nr) do { \
        struct array a = beyond(region, offs, size, kind, len); \
        for (unsigned i = 0; i < (nr); i++) print(at(region, a, i), a.size, i); \
    } while (0)
    PRINT(print_blk_queue, BLK_QUEUE, NR_BLK_QUEUES);
    PRINT(print_net_queue, NET_QUEUE, NR_NET_QUEUES);
    PRINT(print_vcpu_hist, VCPU_HIST, NR_VCPUS);
    PRINT(print_blk_hist, BLK_HIST, NR_BLKS);
    PRINT(print_labels, LABELS, 1);
#endif
    return 0;
}
