/* Writing a region from C: its layout, its headers, its schema, and the steps by which groups change.
 * C11 and C++17, gcc and clang. Include it after a revision's header, which decides what is written.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * This part needs no operating system and no C library: memory comes from the caller. publish.h makes
 * the memory on Linux and lets consumers find it; docs/c-authors.md says how to use both.
 *
 *     struct domstat_plan plan;
 *     struct domstat_options options = domstat_options_of("web1");
 *     const char *why = domstat_plan_of(&options, &plan);        // NULL, or why not
 *     domstat_init(map, &plan, random);                          // plan.len bytes at map
 *     domstat_write_vcpu_exits(domstat_vcpu_at(map, &plan, 0), &exits, now);
 *     domstat_go_live(map);
 *
 * Each group has one writer at a time. Writers of different groups need no lock between them, and may
 * be of one record. */
#ifndef DOMSTAT_WRITE_H
#define DOMSTAT_WRITE_H

#include "region.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the words of a region are little-endian, and write.h stores them as they are"
#endif

/* Words of a group, whatever its fields are declared as. */
typedef uint64_t __attribute__((may_alias)) domstat_word;
typedef uint32_t __attribute__((may_alias)) domstat_half;

/* ---- The steps of a writer ------------------------------------------------------------------- */

static inline void domstat_store32(domstat_half *at, uint32_t value)
{
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
}

static inline void domstat_store64(domstat_word *at, uint64_t value)
{
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
}

/* Begins an update: makes seq odd and returns it. One that is odd already, because the group is not
 * active or its writer died, moves on to the next odd number. */
static inline uint32_t domstat_write_begin(domstat_half *seq)
{
    /* Relaxed: there is one writer, so this reads its own last store. */
    const uint32_t odd = (__atomic_load_n(seq, __ATOMIC_RELAXED) + 1) | 1;
    domstat_store32(seq, odd);
    /* Pairs with the acquire fence before a reader's second look at seq; without it a reader could
     * copy a new word and still find the old even number. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    return odd;
}

/* Ends an update: makes seq even. */
static inline void domstat_write_end(domstat_half *seq, uint32_t odd)
{
    /* Release: pairs with the acquire fence after a reader's first look at seq; without it a reader
     * could find the new even number and copy old words. */
    __atomic_store_n(seq, odd + 1, __ATOMIC_RELEASE);
}

/* Leaves a copy in mid-update, as it stays while its bit is clear. */
static inline void domstat_suspend(void *copy)
{
    domstat_half *seq = (domstat_half *)copy;
    if ((__atomic_load_n(seq, __ATOMIC_RELAXED) & 1) == 0)
        domstat_write_begin(seq);
}

/* Writes one copy of a group: `nr` words of fields, as of `now`. */
static inline void domstat_write_copy(void *copy, const domstat_word *fields, size_t nr, uint64_t now)
{
    domstat_word *to = (domstat_word *)copy;
    const uint32_t odd = domstat_write_begin((domstat_half *)copy);
    /* Relaxed: seq guards these words. */
    domstat_store64(&to[1], now);
    for (size_t i = 0; i < nr; i++)
        domstat_store64(&to[2 + i], fields[i]);
    domstat_write_end((domstat_half *)copy, odd);
}

/* Marks a group as produced, if it is not yet. */
static inline void domstat_activate(uint64_t *active, uint64_t mask)
{
    /* Relaxed: only this group's writer changes these bits. */
    if ((__atomic_load_n(active, __ATOMIC_RELAXED) & mask) != mask)
        /* An atomic OR, because other groups of the record may have other writers. Release: who sees
         * the bit and then fences sees the odd seq. Readers of a group do not depend on it, since
         * they look at the bit between their two looks at seq; tools that list what is active do. */
        __atomic_fetch_or(active, mask, __ATOMIC_RELEASE);
}

/* Writes a group: its first copy and then, if it has one, the second, so that a reader always finds
 * one of them whole or finds it soon. `mask` has their bits in stats_active, which are set if they are
 * clear: while both copies are in mid-update, so no reader takes what lies there for a value. */
static inline void domstat_write_words(uint64_t *active, uint64_t mask, void *first, void *second,
                                       const domstat_word *fields, size_t nr, uint64_t now)
{
    domstat_activate(active, mask);
    domstat_write_copy(first, fields, nr, now);
    if (second)
        domstat_write_copy(second, fields, nr, now);
}

/* The sum of two words: not produced if one of them is not, and it stops at what a word can say. */
static inline uint64_t domstat_plus(uint64_t a, uint64_t b)
{
    if (a == DOMSTAT_NOT_PRODUCED || b == DOMSTAT_NOT_PRODUCED)
        return DOMSTAT_NOT_PRODUCED;
    return b < DOMSTAT_SATURATED - a ? a + b : DOMSTAT_SATURATED;
}

/* Which of `nr` buckets counts `value`: that of its length in bits, or the last. */
static inline uint32_t domstat_bucket_of(uint64_t value, uint32_t nr)
{
    const uint32_t bits = value ? 64 - (uint32_t)__builtin_clzll(value) : 0;
    return bits < nr - 1 ? bits : nr - 1;
}

/* Records a value in a distribution of `nr` buckets: sum, maximum and one bucket change in one update.
 * The first value of a group that is not active finds it empty. */
static inline void domstat_add_value(uint64_t *active, uint64_t mask, void *group, uint32_t nr,
                                     uint64_t value, uint64_t now)
{
    domstat_word *words = (domstat_word *)group;
    domstat_word *bucket = &words[4 + domstat_bucket_of(value, nr)];
    /* Relaxed, as all loads here: there is one writer, so it reads its own last stores. */
    const int is_first = (__atomic_load_n(active, __ATOMIC_RELAXED) & mask) == 0;
    domstat_activate(active, mask);
    const uint32_t odd = domstat_write_begin((domstat_half *)group);
    domstat_store64(&words[1], now);
    for (uint32_t i = 0; is_first && i < 2 + nr; i++)
        domstat_store64(&words[2 + i], 0);
    domstat_store64(&words[2], domstat_plus(words[2], value));
    /* What is not produced stays so: as a number it is the largest. */
    if (value > words[3])
        domstat_store64(&words[3], value < DOMSTAT_SATURATED ? value : DOMSTAT_SATURATED);
    domstat_store64(bucket, domstat_plus(*bucket, 1));
    domstat_write_end((domstat_half *)group, odd);
}

/* Marks a group as not produced: both copies are left in mid-update before the bits change, so a
 * reader that finds them clear finds seq odd. */
static inline void domstat_deactivate(uint64_t *active, uint64_t mask, void *first, void *second)
{
    if ((__atomic_load_n(active, __ATOMIC_RELAXED) & mask) == 0)
        return;
    domstat_suspend(first);
    if (second)
        domstat_suspend(second);
    /* An atomic AND and release, as above. */
    __atomic_fetch_and(active, ~mask, __ATOMIC_RELEASE);
}

/* Makes the region visible: everything else is in place. Consumers look at the magic first. */
static inline void domstat_go_live(void *map)
{
    domstat_half *words = (domstat_half *)map;
    /* Release: who sees the state sees what was written before it. */
    __atomic_store_n(&words[9], DOMSTAT_STATE_LIVE, __ATOMIC_RELEASE);
    /* Release: pairs with the fence after a consumer's look at the magic; without it a consumer could
     * find the magic and a header that is not there yet. */
    __atomic_store_n(&words[0], DOMSTAT_DOM_MAGIC, __ATOMIC_RELEASE);
}

/* Reports that the domain has ended. Call domstat_bump() then, and wake who waits. */
static inline void domstat_mark_retired(void *map)
{
    /* Release: who sees the state sees the last values. */
    __atomic_store_n((domstat_half *)map + 9, DOMSTAT_STATE_RETIRED, __ATOMIC_RELEASE);
}

/* Counts a discrete event and returns the word that counts them, a futex; from any thread. */
static inline domstat_half *domstat_bump(void *map)
{
    domstat_half *notify = (domstat_half *)map + 12;
    /* Release: who sees the new number sees the event. */
    __atomic_fetch_add(notify, 1, __ATOMIC_RELEASE);
    return notify;
}

/* ---- The tables ------------------------------------------------------------------------------ */

struct domstat_kind {
    const char *name;
    uint32_t magic, base;
};

struct domstat_field {
    const char *name;
    uint32_t offset, width, kind, unit;
    int32_t exponent;
    uint32_t nr;
    const char *states;
};

struct domstat_group {
    uint32_t kind;
    const char *name;
    uint32_t bit, offset, size, since, twin_of, nr_fields;
    const struct domstat_field *fields;
};

/* A group of your own, in an arch slot: numbers of 64 bits that no table knows. Kinds and units are
 * those of TABLE.md's registry: 1 cumulative, 2 instant; 0 a plain number, 1 bytes, 2 seconds. Values
 * count ten to the power of the exponent of the unit. */
struct domstat_arch_field {
    const char *name;
    uint32_t kind, unit;
    int32_t exponent;
};

struct domstat_arch_group {
    const char *name;
    const struct domstat_arch_field *fields;
    uint32_t nr_fields;
};

struct domstat_arch {
    const struct domstat_arch_group *groups;
    uint32_t nr_groups;
};

/* Most groups of an arch slot, most fields of one of its groups, and most bytes of their names. */
#define DOMSTAT_MAX_ARCH_GROUPS 64u
#define DOMSTAT_MAX_ARCH_FIELDS 1024u
#define DOMSTAT_ARCH_NAMES_LEN 4096u
/* Longest name of a domain in bytes. */
#define DOMSTAT_MAX_NAME_LEN 127u

struct domstat_options {
    const char *name;
    uint64_t domid;      /* the host's number for it, or DOMSTAT_NOT_PRODUCED */
    const uint8_t *uuid; /* 16 bytes, or NULL */
    uint64_t created_ns; /* on the region's clock, or DOMSTAT_NOT_PRODUCED */
    uint32_t clock;      /* DOMSTAT_CLOCK_MONOTONIC: what every `now` counts */
    /* Slots: the most that the domain will have at one time. A slot that is not used costs its length
     * in memory and nothing else. */
    uint32_t nr_vcpus, nr_blks, nr_nets;
    /* Revision 5: shares of devices that several threads serve, distributions, and labels, lines of
     * key=value that each end in a line feed. */
    uint32_t nr_blk_queues, nr_net_queues;
    int vcpu_hists, blk_hists;
    const char *labels;
    int pages;          /* each record on a page of its own */
    uint32_t page_size; /* 4096 */
    uint32_t align;     /* 0: a cache line, or a page with `pages` */
    uint32_t vcpu_offs, vcpu_stride; /* 0: as close as `align` allows */
    int no_schema;      /* whether the region does not describe its groups */
    /* Revision 4; of devices, revision 5. */
    struct domstat_arch arch_dom, arch_vcpu, arch_blk, arch_net;
};

/* Where everything lies. */
struct domstat_plan {
    struct domstat_options options;
    struct domstat_array arrays[14]; /* by the number of their kind */
    struct domstat_section schema;
    uint64_t align;
    uint64_t len; /* whole pages */
};

/* Start of record `index` of a kind; NULL if there is none. */
static inline char *domstat_record_at(void *map, const struct domstat_plan *plan, uint32_t kind,
                                      uint32_t index)
{
    const struct domstat_array *array = &plan->arrays[kind];
    return index < array->nr ? (char *)map + array->offs + index * array->stride : NULL;
}

/* What groups.h makes of its list: domstat_vcpu_at() for the records of a kind, and
 * domstat_write_vcpu_exits() and domstat_end_vcpu_exits() for a group, domstat_record_vcpu_hist_wait()
 * for a distribution. Of the value's first two words nothing is taken: seq is the writer's, and `now`
 * is what updated_ns becomes. */
#define DOMSTAT_RECORD(record, kind, number) \
    static inline struct record *domstat_##kind##_at(void *map, const struct domstat_plan *plan, \
                                                     uint32_t index) \
    { \
        return (struct record *)domstat_record_at(map, plan, number, index); \
    }
#define DOMSTAT_WRITER(record, group, first, second, mask) \
    static inline void domstat_write_##group(struct record *to, const struct domstat_##group *value, \
                                             uint64_t now) \
    { \
        domstat_write_words(&to->header.stats_active, mask, first, second, \
                            (const domstat_word *)value + 2, sizeof(*value) / 8 - 2, now); \
    } \
    static inline void domstat_end_##group(struct record *to) \
    { \
        domstat_deactivate(&to->header.stats_active, mask, first, second); \
    }
#define DOMSTAT_GROUP(record, group, member, bit) \
    DOMSTAT_WRITER(record, group, &to->member, NULL, (uint64_t)1 << bit)
#define DOMSTAT_TWINS(record, group, member, bit, twin, twin_bit) \
    DOMSTAT_WRITER(record, group, &to->member, &to->twin, \
                   (uint64_t)1 << bit | (uint64_t)1 << twin_bit)
#define DOMSTAT_DISTRIBUTION(record, group, member, bit, buckets) \
    static inline void domstat_record_##group(struct record *to, uint64_t value, uint64_t now) \
    { \
        domstat_add_value(&to->header.stats_active, (uint64_t)1 << bit, &to->member, \
                          sizeof(to->member.buckets) / 8, value, now); \
    }
#include "groups.h"
#undef DOMSTAT_RECORD
#undef DOMSTAT_WRITER
#undef DOMSTAT_GROUP
#undef DOMSTAT_TWINS
#undef DOMSTAT_DISTRIBUTION

#include "plan.h"

/* ---- Creating -------------------------------------------------------------------------------- */

/* Leaves every group of a record in mid-update: nothing is produced yet. */
static inline void domstat_suspend_all(char *record, const struct domstat_plan *plan, uint32_t kind)
{
    const struct domstat_arch *arch = domstat_arch_of(&plan->options, kind);
    for (size_t i = 0; i < sizeof(domstat_groups) / sizeof(*domstat_groups); i++)
        if (domstat_groups[i].kind == kind)
            domstat_suspend(record + domstat_groups[i].offset);
    for (uint32_t i = 0; arch && i < arch->nr_groups; i++)
        domstat_suspend(record + domstat_arch_offset(arch, i));
}

/* The two groups that are written once. */
static inline void domstat_write_constants(void *map, const struct domstat_plan *plan)
{
    const struct domstat_options *o = &plan->options;
    const uint64_t as_of = o->created_ns < DOMSTAT_SATURATED ? o->created_ns : 0;
    struct domstat_dom_identity identity;
    identity.domid = o->domid;
    identity.created_ns = o->created_ns;
    for (size_t i = 0; i < sizeof(identity.uuid); i++)
        identity.uuid[i] = o->uuid ? o->uuid[i] : 0xff;
    const size_t len = domstat_name_len(o->name);
    for (size_t i = 0; i < sizeof(identity.name); i++)
        identity.name[i] = i < len ? o->name[i] : '\0';
    domstat_write_dom_identity((struct domstat_dom *)map, &identity, as_of);
#if DOMSTAT_REVISION >= 5
    struct domstat_labels_record *to = domstat_labels_at(map, plan, 0);
    if (to) {
        struct domstat_labels_labels labels;
        size_t i = 0;
        for (; o->labels[i] != '\0'; i++)
            labels.text[i] = o->labels[i];
        for (; i < sizeof(labels.text); i++)
            labels.text[i] = '\0';
        domstat_write_labels_labels(to, &labels, as_of);
    }
#endif
}

/* Makes a region of `plan.len` bytes at `map`, which nobody else sees yet: headers, schema, and the
 * groups identity and labels. `incarnation` is a random number. Then write what consumers are to find
 * from the first look on, and domstat_go_live(). */
static inline void domstat_init(void *map, const struct domstat_plan *plan, uint64_t incarnation)
{
    uint32_t words[DOMSTAT_HEADER_LEN / 4];
    domstat_half *header = (domstat_half *)map;
    for (uint64_t i = 0; i < plan->len / 8; i++)
        domstat_store64((domstat_word *)map + i, 0);
    domstat_header_words(plan, words);
    words[10] = (uint32_t)incarnation;
    words[11] = (uint32_t)(incarnation >> 32);
    /* All but the magic, which is last to be stored. */
    for (size_t i = 1; i < DOMSTAT_HEADER_LEN / 4; i++)
        domstat_store32(&header[i], words[i]);
    if (plan->schema.size > 0)
        domstat_schema(plan, (char *)map + plan->schema.offs);
    for (uint32_t kind = DOMSTAT_KIND_DOM; kind <= DOMSTAT_NR_KINDS; kind++) {
        for (uint32_t i = 0; i < plan->arrays[kind].nr; i++) {
            char *record = domstat_record_at(map, plan, kind, i);
            if (kind != DOMSTAT_KIND_DOM) {
                domstat_store32((domstat_half *)record, domstat_kinds[kind].magic);
                domstat_store32((domstat_half *)record + 1, i);
            }
            domstat_suspend_all(record, plan, kind);
        }
    }
    domstat_write_constants(map, plan);
}

/* ---- Slots ----------------------------------------------------------------------------------- */

/* Writes group `index` of an arch slot, a word for each of its fields. */
static inline void domstat_write_arch(void *map, const struct domstat_plan *plan, uint32_t kind,
                                      uint32_t slot, uint32_t index, const uint64_t *fields,
                                      uint64_t now)
{
    const struct domstat_arch *arch = domstat_arch_of(&plan->options, kind);
    char *record = domstat_record_at(map, plan, kind, slot);
    if (!record || !arch || index >= arch->nr_groups)
        return;
    domstat_write_words((uint64_t *)(record + 8), (uint64_t)1 << index,
                        record + domstat_arch_offset(arch, index), NULL,
                        (const domstat_word *)fields, arch->groups[index].nr_fields, now);
}

/* The second copy of a group, if it has one. */
static inline const struct domstat_group *domstat_twin_of(const struct domstat_group *first)
{
    for (size_t i = 0; i < sizeof(domstat_groups) / sizeof(*domstat_groups); i++)
        if (domstat_groups[i].kind == first->kind && domstat_groups[i].twin_of == first->bit + 1)
            return &domstat_groups[i];
    return NULL;
}

/* Every group of a record off, and its generation that. */
static inline void domstat_renew_record(char *record, const struct domstat_plan *plan, uint32_t kind,
                                        uint32_t generation)
{
    const struct domstat_arch *arch = domstat_arch_of(&plan->options, kind);
    uint64_t *active = (uint64_t *)(record + 8);
    for (size_t i = 0; i < sizeof(domstat_groups) / sizeof(*domstat_groups); i++) {
        const struct domstat_group *g = &domstat_groups[i], *twin;
        if (g->kind != kind || g->twin_of != 0)
            continue;
        twin = domstat_twin_of(g);
        domstat_deactivate(active, (uint64_t)1 << g->bit | (twin ? (uint64_t)1 << twin->bit : 0),
                           record + g->offset, twin ? record + twin->offset : NULL);
    }
    for (uint32_t i = 0; arch && i < arch->nr_groups; i++)
        domstat_deactivate(active, (uint64_t)1 << i, record + domstat_arch_offset(arch, i), NULL);
    /* Release, and after the groups are off: a reader takes a value between two looks at a seq that is
     * even and sees the generation that it was written in. */
    __atomic_store_n((domstat_half *)record + 4, generation, __ATOMIC_RELEASE);
}

/* Gives a slot to something else, as a device that was unplugged makes room for another: every group
 * of its record and of the records that belong to it off, and a generation of its own. All writers of
 * the slot have stopped. */
static inline void domstat_renew(void *map, const struct domstat_plan *plan, uint32_t kind,
                                 uint32_t index)
{
    char *record = domstat_record_at(map, plan, kind, index);
    if (!record || kind == DOMSTAT_KIND_DOM)
        return;
    /* Relaxed: the owner of the slot reads its own last store. */
    const uint32_t next = __atomic_load_n((domstat_half *)record + 4, __ATOMIC_RELAXED) + 1;
    domstat_renew_record(record, plan, kind, next);
    for (uint32_t other = DOMSTAT_KIND_DOM; other <= DOMSTAT_NR_KINDS; other++) {
        if (domstat_kinds[other].base == kind && index < plan->arrays[other].nr)
            domstat_renew_record(domstat_record_at(map, plan, other, index), plan, other, next);
    }
}

#endif
