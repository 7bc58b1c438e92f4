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

/* Checks the header of the region mapped at `map`, `len` bytes long, which must be aligned to 8 as
 * every mapping is. NULL if it can be read, with its shape in `out`; else why not, in words. */
static inline const char *domstat_attach(const void *map, size_t len, struct domstat_geometry *out)
{
    static const struct domstat_geometry none;
    uint32_t w[DOMSTAT_HEADER_LEN / 4];
    const char *error;
    *out = none;
    if (len < DOMSTAT_HEADER_LEN)
        return "shorter than a header";
    if (len > DOMSTAT_MAX_REGION_LEN)
        return "longer than a region can be";
    /* The magic is stored last, so what is loaded after it is there. */
    w[0] = domstat_load32((const uint32_t *)map);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    for (size_t i = 1; i < DOMSTAT_HEADER_LEN / 4; i++)
        w[i] = domstat_load32((const uint32_t *)map + i);
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
