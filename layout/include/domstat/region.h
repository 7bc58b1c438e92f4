/* Attaching to a region from C: the checks of its header that a reader makes once, after it has
 * mapped the region and before it reads. Include it after a revision's header, with read.h.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A header is what another process alleges. domstat_attach() copies it, checks the copy and fills in
 * a struct domstat_geometry; use that, and never the words in the mapping, which may change. */
#ifndef DOMSTAT_REGION_H
#define DOMSTAT_REGION_H

#include "read.h"

#define DOMSTAT_HEADER_LEN 128u
#define DOMSTAT_RECORD_HEADER_LEN 32u
#define DOMSTAT_SCHEMA_HEADER_LEN 32u
/* Most records of one kind. */
#define DOMSTAT_MAX_RECORDS 65536u
/* Most kinds of record in a schema, and the last of those that have a meaning here. */
#define DOMSTAT_MAX_KINDS 64u
#define DOMSTAT_LAST_KIND 13u
/* Longest region: do not map more. */
#define DOMSTAT_MAX_REGION_LEN (1u << 30)

/* Records of one kind; nr is 0 if the region has none. */
struct domstat_array {
    uint64_t offs, size, stride;
    uint32_t nr;
};

/* A run of bytes; size is 0 if the region has none. */
struct domstat_section {
    uint64_t offs, size;
};

/* The checked shape of a region: every part lies inside the mapping, holds at least its header,
 * starts at a multiple of 8 and overlaps no other. */
struct domstat_geometry {
    uint64_t dom_size;
    struct domstat_array vcpus, blks, nets;
    /* arch_vcpu.offs counts from the start of each vcpu record, the others from the region's. */
    struct domstat_section arch_dom, arch_vcpu, schema;
    /* Changes whenever the region is created again. */
    uint64_t incarnation;
    uint32_t revision, clock;
};

/* An array whose four header words are at `w`. */
static inline const char *domstat_check_array(const uint32_t *w, uint64_t len,
                                              struct domstat_array *out)
{
    const struct domstat_array a = {w[0], w[1], w[2], w[3]};
    if (a.size < DOMSTAT_RECORD_HEADER_LEN)
        return "a record is shorter than its header";
    if (a.stride < a.size)
        return "records overlap";
    if (a.nr == 0 || a.nr > DOMSTAT_MAX_RECORDS)
        return "the number of records is out of bounds";
    if (a.offs % 8 != 0 || a.size % 8 != 0 || a.stride % 8 != 0)
        return "an array is not aligned to 8 bytes";
    /* No wrap: each factor is below 2^32. */
    if (a.offs + a.nr * a.stride > len)
        return "an array does not end inside the mapping";
    *out = a;
    return NULL;
}

/* A section whose two header words are at `w`, inside `len` bytes. */
static inline const char *domstat_check_section(const uint32_t *w, uint64_t len, uint64_t least,
                                                struct domstat_section *out)
{
    const struct domstat_section s = {w[0], w[1]};
    if (s.offs == 0 && s.size == 0)
        return NULL;
    if (s.offs % 8 != 0 || s.size % 8 != 0)
        return "a section is not aligned to 8 bytes";
    if (s.size < least)
        return "a section is shorter than its header";
    if (s.offs + s.size > len)
        return "a section does not end inside its area";
    *out = s;
    return NULL;
}

static inline int domstat_is_zero(const uint32_t *w, int n)
{
    for (int i = 0; i < n; i++)
        if (w[i] != 0)
            return 0;
    return 1;
}

/* Checks a copy of a header of a region that is `len` bytes long. NULL if it can be read, with its shape
 * in `out`; else why not, in words. */
static inline const char *domstat_check_header(const uint32_t *w, size_t len,
                                               struct domstat_geometry *out)
{
    static struct domstat_geometry none;
    const char *error;
    *out = none;
    if (len < DOMSTAT_HEADER_LEN)
        return "shorter than a header";
    if (len > DOMSTAT_MAX_REGION_LEN)
        return "longer than a region can be";
    if (w[0] == 0)
        return "not published yet";
    if (w[0] != DOMSTAT_DOM_MAGIC)
        return "not a domstat region";
    out->dom_size = w[1];
    if (out->dom_size < DOMSTAT_HEADER_LEN || out->dom_size > len || out->dom_size % 8 != 0)
        return "the dom record's length is out of bounds";
    if (w[2] < w[1])
        return "the vcpu array starts inside the dom record";
    if ((error = domstat_check_array(&w[2], len, &out->vcpus)))
        return error;
    if (!domstat_is_zero(&w[21], 4) && (error = domstat_check_array(&w[21], len, &out->blks)))
        return error;
    if (!domstat_is_zero(&w[25], 4) && (error = domstat_check_array(&w[25], len, &out->nets)))
        return error;
    if ((error = domstat_check_section(&w[15], len, DOMSTAT_RECORD_HEADER_LEN, &out->arch_dom)) ||
        (error = domstat_check_section(&w[17], out->vcpus.stride, DOMSTAT_RECORD_HEADER_LEN,
                                       &out->arch_vcpu)) ||
        (error = domstat_check_section(&w[19], len, DOMSTAT_SCHEMA_HEADER_LEN, &out->schema)))
        return error;
    if (out->arch_vcpu.size > 0 && out->arch_vcpu.offs < out->vcpus.size)
        return "an arch slot overlaps its vcpu record";
    const struct domstat_section parts[] = {
        {0, out->dom_size},
        {out->vcpus.offs, out->vcpus.nr * out->vcpus.stride},
        {out->blks.offs, out->blks.nr * out->blks.stride},
        {out->nets.offs, out->nets.nr * out->nets.stride},
        out->arch_dom,
        out->schema,
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
        for (size_t j = 0; j < i; j++)
            if (parts[i].offs < parts[j].offs + parts[j].size &&
                parts[j].offs < parts[i].offs + parts[i].size)
                return "two parts of the region overlap";
    out->incarnation = w[10] | (uint64_t)w[11] << 32;
    out->revision = w[13];
    out->clock = w[14];
    return NULL;
}

/* Checks the header of the region mapped at `map`, `len` bytes long, which must be aligned to 8 as
 * every mapping is. NULL if it can be read, with its shape in `out`; else why not, in words. */
static inline const char *domstat_attach(const void *map, size_t len, struct domstat_geometry *out)
{
    uint32_t w[DOMSTAT_HEADER_LEN / 4];
    if (len < DOMSTAT_HEADER_LEN) {
        w[0] = 0;
        return domstat_check_header(w, len, out);
    }
    /* The magic is stored last, so what is loaded after it is there. */
    w[0] = domstat_load32((const uint32_t *)map);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    for (size_t i = 1; i < DOMSTAT_HEADER_LEN / 4; i++)
        w[i] = domstat_load32((const uint32_t *)map + i);
    return domstat_check_header(w, len, out);
}

/* Whether no record of the one shares a byte with one of the other: their ranges are apart, or they have
 * the same stride and count and lie in windows of it that are. */
static inline int domstat_is_apart(const struct domstat_array *a, uint64_t a_end,
                                   const struct domstat_array *b, uint64_t b_end)
{
    if (a->nr == 0 || b->nr == 0 || a_end <= b->offs || b_end <= a->offs)
        return 1;
    const struct domstat_array *first = a->offs <= b->offs ? a : b;
    const struct domstat_array *second = first == a ? b : a;
    const uint64_t at = second->offs - first->offs;
    return a->stride == b->stride && a->nr == b->nr && at >= first->size &&
           at + second->size <= first->stride;
}

/* Where the last record of an array ends. */
static inline uint64_t domstat_array_end(const struct domstat_array *a)
{
    return a->nr == 0 ? a->offs : a->offs + (uint64_t)(a->nr - 1) * a->stride + a->size;
}

/* An entry of the schema's table of records, whose eight words are at `w`. `nr_base` is the number
 * of records of the kind that the kind's records belong to, if there is one. */
static inline const char *domstat_check_entry(const uint32_t *w, uint64_t len, uint32_t nr_base,
                                              int has_base, struct domstat_array *out)
{
    const struct domstat_array a = {w[2], w[3], w[4], w[5]};
    const uint32_t most = has_base ? nr_base : w[0] == DOMSTAT_LAST_KIND ? 1 : DOMSTAT_MAX_RECORDS;
    if (a.offs % 8 != 0 || a.size % 8 != 0 || a.stride % 8 != 0)
        return "an array of the schema is not aligned to 8 bytes";
    if (a.size < DOMSTAT_RECORD_HEADER_LEN || a.stride < a.size)
        return "records of the schema are shorter than their header, or overlap";
    if (a.nr == 0 || a.nr > most || (has_base && a.nr != nr_base))
        return "the number of records in the schema is out of bounds";
    if (w[6] != 8 || w[7] != DOMSTAT_RECORD_HEADER_LEN)
        return "records of the schema have another header";
    /* No wrap: each factor is below 2^32. */
    if (domstat_array_end(&a) > len)
        return "an array of the schema does not end inside the mapping";
    *out = a;
    return NULL;
}

/* Where the records of every kind lie, by the number of the kind, those included that only the schema
 * announces: shares, distributions, labels and arch slots of devices (revision 5). `out` has room for
 * DOMSTAT_LAST_KIND + 1 arrays. NULL, or why the kinds beyond the header cannot be used; those of the
 * header are in `out` all the same. */
static inline const char *domstat_attach_records(const void *map, size_t len,
                                                 const struct domstat_geometry *g,
                                                 struct domstat_array *out)
{
    /* By the number of a kind: the kind that its records belong to. */
    static const uint8_t base[DOMSTAT_LAST_KIND + 1] = {0, 0, 0, 0, 0, 1, 2, 0, 0, 3, 4, 2, 3, 0};
    static struct domstat_array none;
    struct domstat_array found[DOMSTAT_LAST_KIND + 1];
    const char *error;
    for (uint32_t kind = 0; kind <= DOMSTAT_LAST_KIND; kind++)
        out[kind] = none;
    const struct domstat_array dom = {0, g->dom_size, g->dom_size, 1};
    const struct domstat_array arch_dom = {g->arch_dom.offs, g->arch_dom.size, g->arch_dom.size,
                                           g->arch_dom.size ? 1u : 0u};
    const struct domstat_array arch_vcpu = {g->vcpus.offs + g->arch_vcpu.offs, g->arch_vcpu.size,
                                            g->vcpus.stride, g->arch_vcpu.size ? g->vcpus.nr : 0};
    const struct domstat_array schema = {g->schema.offs, g->schema.size, g->schema.size, 1};
    out[1] = dom;
    out[2] = g->vcpus;
    out[3] = g->blks;
    out[4] = g->nets;
    out[5] = arch_dom;
    out[6] = arch_vcpu;
    if (g->schema.size == 0)
        return NULL;
    for (uint32_t kind = 0; kind <= DOMSTAT_LAST_KIND; kind++)
        found[kind] = out[kind];
    const uint32_t *head = (const uint32_t *)((const char *)map + g->schema.offs);
    const uint64_t nr = domstat_load32(&head[1]), entry = domstat_load32(&head[2]);
    /* "SCH" and 1. */
    if (domstat_load32(head) != 0x01484353u || entry < 32 || entry % 8 != 0)
        return "not a schema, or one of short entries";
    if (nr > DOMSTAT_MAX_KINDS || nr > (g->schema.size - DOMSTAT_SCHEMA_HEADER_LEN) / entry)
        return "the schema has more kinds of record than there is room for";
    uint32_t before = 0;
    for (uint64_t i = 0; i < nr; i++) {
        uint32_t w[8];
        for (size_t j = 0; j < 8; j++)
            w[j] = domstat_load32(head + (DOMSTAT_SCHEMA_HEADER_LEN + i * entry) / 4 + j);
        if (w[0] <= before)
            return "kinds of record in the schema are not in order";
        before = w[0];
        /* The header says where its own kinds are; kinds that are not known here are skipped. */
        if (w[0] < 7 || w[0] > DOMSTAT_LAST_KIND)
            continue;
        if ((error = domstat_check_entry(w, len, found[base[w[0]]].nr, base[w[0]] != 0, &found[w[0]])))
            return error;
        const uint64_t end = domstat_array_end(&found[w[0]]);
        for (uint32_t kind = 0; kind < w[0]; kind++) {
            const struct domstat_array *other = kind == 0 ? &schema : &found[kind];
            /* Arrays of the header end with the gap of their last record. */
            const uint64_t other_end = kind >= 2 && kind <= 4 ? other->offs + other->nr * other->stride
                                                              : domstat_array_end(other);
            if (!domstat_is_apart(&found[w[0]], end, other, other_end))
                return "records of the schema overlap another part of the region";
        }
    }
    for (uint32_t kind = 7; kind <= DOMSTAT_LAST_KIND; kind++)
        out[kind] = found[kind];
    return NULL;
}

/* Start of record `index` of an array, which has to be below its nr. */
static inline const char *domstat_record(const void *map, const struct domstat_array *array,
                                         uint32_t index)
{
    return (const char *)map + array->offs + index * array->stride;
}

/* The state word as it is now: DOMSTAT_STATE_LIVE, or the numbers are nobody's. */
static inline uint32_t domstat_state(const void *map)
{
    return domstat_load32((const uint32_t *)map + 9);
}

/* The bits of the groups that a record produces, for domstat_read_group(). The dom record has them
 * at byte 24, every other record at byte 8. */
static inline const uint64_t *domstat_active(const char *record)
{
    return (const uint64_t *)(record + 8);
}

#endif
