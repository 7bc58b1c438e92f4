/* Where the parts of a region lie, its header and its schema: the part of write.h that is done once.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef DOMSTAT_PLAN_H
#define DOMSTAT_PLAN_H

#ifndef DOMSTAT_WRITE_H
#error "include write.h"
#endif

/* Default alignment of packed records: a cache line of nearly every CPU. */
#define DOMSTAT_PACKED_ALIGN 64u
/* What parts that share a page with a record are aligned to, as groups are. */
#define DOMSTAT_GROUP_ALIGN 16u

/* A domain of one vCPU; what is not known is not produced, which is not 0. */
static inline struct domstat_options domstat_options_of(const char *name)
{
    static struct domstat_options none;
    struct domstat_options options = none;
    options.name = name;
    options.domid = options.created_ns = DOMSTAT_NOT_PRODUCED;
    options.clock = DOMSTAT_CLOCK_MONOTONIC;
    options.nr_vcpus = 1;
    options.page_size = 4096;
    return options;
}

/* Bytes of a name that are kept: as many as there is room for, whole characters. */
static inline size_t domstat_name_len(const char *name)
{
    size_t len = 0;
    while (len <= DOMSTAT_MAX_NAME_LEN && name[len] != '\0')
        len++;
    if (len > DOMSTAT_MAX_NAME_LEN)
        for (len = DOMSTAT_MAX_NAME_LEN; len > 0 && ((unsigned char)name[len] & 0xc0) == 0x80;)
            len--;
    return len;
}

static inline uint64_t domstat_round_up(uint64_t n, uint64_t align)
{
    return (n + align - 1) / align * align;
}

/* The groups of a kind of arch slot; NULL for other kinds. */
static inline const struct domstat_arch *domstat_arch_of(const struct domstat_options *o,
                                                         uint32_t kind)
{
    switch (kind) {
    case DOMSTAT_KIND_ARCH_DOM:
        return &o->arch_dom;
    case DOMSTAT_KIND_ARCH_VCPU:
        return &o->arch_vcpu;
    case DOMSTAT_KIND_ARCH_BLK:
        return &o->arch_blk;
    case DOMSTAT_KIND_ARCH_NET:
        return &o->arch_net;
    default:
        return NULL;
    }
}

/* Start of group `index` in its slot; of the first that is not there, the length of the slot. */
static inline uint32_t domstat_arch_offset(const struct domstat_arch *arch, uint32_t index)
{
    uint32_t at = DOMSTAT_RECORD_HEADER_LEN;
    for (uint32_t i = 0; i < index; i++)
        at += (uint32_t)domstat_round_up(16 + 8 * arch->groups[i].nr_fields, DOMSTAT_GROUP_ALIGN);
    return at;
}

static inline uint32_t domstat_arch_size(const struct domstat_arch *arch)
{
    return arch->nr_groups ? domstat_arch_offset(arch, arch->nr_groups) : 0;
}

/* ---- The schema ------------------------------------------------------------------------------ */

/* A schema as it is made: words at `to`, unless it is NULL and only the length is wanted. */
struct domstat_schema_parts {
    uint32_t *to;
    uint32_t records, groups, fields; /* the next entry of each table, in words */
    uint32_t nr_fields, strings_len;
    char strings[DOMSTAT_STRINGS_LEN + DOMSTAT_ARCH_NAMES_LEN];
};

static inline void domstat_put(struct domstat_schema_parts *s, uint32_t at, const uint32_t *words,
                               uint32_t nr)
{
    for (uint32_t i = 0; s->to && i < nr; i++)
        s->to[at + i] = words[i];
}

/* Adds a string and its terminator; the caller has made sure that there is room. */
static inline uint32_t domstat_add_string(struct domstat_schema_parts *s, const char *text)
{
    const uint32_t at = s->strings_len;
    do
        s->strings[s->strings_len++] = *text;
    while (*text++ != '\0');
    return at;
}

/* Adds a string, or finds it if it is there. */
static inline uint32_t domstat_string(struct domstat_schema_parts *s, const char *text)
{
    for (uint32_t at = 0; at < s->strings_len;) {
        uint32_t i = 0;
        while (text[i] != '\0' && s->strings[at + i] == text[i])
            i++;
        if (text[i] == s->strings[at + i])
            return at;
        for (at += i; s->strings[at++] != '\0';)
            ;
    }
    return domstat_add_string(s, text);
}

static inline void domstat_put_field(struct domstat_schema_parts *s, const char *name, uint32_t offset,
                                     const struct domstat_field *f)
{
    uint32_t states = f->states[0] ? s->strings_len : 0;
    const char *state = f->states;
    for (uint32_t i = 0; f->states[0] && i < f->nr; i++) {
        domstat_add_string(s, state);
        while (*state++ != '\0')
            ;
    }
    const uint32_t words[12] = {domstat_string(s, name), offset, f->width, f->kind, f->unit,
                                (uint32_t)f->exponent, 10, f->nr, 0, 0, states, 0};
    domstat_put(s, s->fields, words, 12);
    s->fields += 12;
    s->nr_fields++;
}

static inline void domstat_put_group(struct domstat_schema_parts *s, const struct domstat_group *g)
{
    const uint32_t words[10] = {g->kind, g->bit, g->offset, g->size, domstat_string(s, g->name),
                                s->nr_fields, g->nr_fields, g->since, g->twin_of, 0};
    domstat_put(s, s->groups, words, 10);
    s->groups += 10;
}

static inline void domstat_put_groups(struct domstat_schema_parts *s, const struct domstat_plan *plan,
                                      uint32_t kind)
{
    const struct domstat_arch *arch = domstat_arch_of(&plan->options, kind);
    for (size_t i = 0; i < sizeof(domstat_groups) / sizeof(*domstat_groups); i++) {
        const struct domstat_group *g = &domstat_groups[i];
        if (g->kind != kind)
            continue;
        domstat_put_group(s, g);
        for (uint32_t f = 0; f < g->nr_fields; f++)
            domstat_put_field(s, g->fields[f].name, g->offset + g->fields[f].offset, &g->fields[f]);
    }
    for (uint32_t i = 0; arch && i < arch->nr_groups; i++) {
        const struct domstat_arch_group *a = &arch->groups[i];
        const uint32_t at = domstat_arch_offset(arch, i), end = domstat_arch_offset(arch, i + 1);
        const struct domstat_group g = {kind, a->name, i, at, end - at, 0, 0, a->nr_fields, NULL};
        domstat_put_group(s, &g);
        for (uint32_t f = 0; f < a->nr_fields; f++) {
            const struct domstat_arch_field *from = &a->fields[f];
            const struct domstat_field field = {from->name, 0, 8, from->kind, from->unit,
                                                from->exponent, 0, ""};
            domstat_put_field(s, from->name, at + 16 + 8 * f, &field);
        }
    }
}

/* Writes the schema of a region of this shape to `to`, and returns its length, which does not depend on
 * where things lie; only the latter if `to` is NULL. */
static inline uint32_t domstat_schema(const struct domstat_plan *plan, void *to)
{
    struct domstat_schema_parts s;
    uint32_t nr_records = 0, nr_groups = 0, nr_fields = 0;
    for (uint32_t kind = DOMSTAT_KIND_DOM; kind <= DOMSTAT_NR_KINDS; kind++) {
        const struct domstat_arch *arch = domstat_arch_of(&plan->options, kind);
        if (plan->arrays[kind].nr == 0)
            continue;
        nr_records++;
        for (size_t i = 0; i < sizeof(domstat_groups) / sizeof(*domstat_groups); i++) {
            nr_groups += domstat_groups[i].kind == kind;
            nr_fields += domstat_groups[i].kind == kind ? domstat_groups[i].nr_fields : 0;
        }
        for (uint32_t i = 0; arch && i < arch->nr_groups; i++)
            nr_fields += arch->groups[i].nr_fields;
        nr_groups += arch ? arch->nr_groups : 0;
    }
    if (plan->options.no_schema)
        nr_groups = nr_fields = 0;
    s.to = (uint32_t *)to;
    s.records = DOMSTAT_SCHEMA_HEADER_LEN / 4;
    s.groups = s.records + 8 * nr_records;
    s.fields = s.groups + 10 * nr_groups;
    s.nr_fields = s.strings_len = 0;
    const uint32_t strings = s.fields + 12 * nr_fields;
    for (uint32_t kind = DOMSTAT_KIND_DOM; kind <= DOMSTAT_NR_KINDS; kind++) {
        const struct domstat_array *a = &plan->arrays[kind];
        const int described = !plan->options.no_schema;
        const uint32_t is_dom = kind == DOMSTAT_KIND_DOM;
        if (a->nr == 0)
            continue;
        const uint32_t words[8] = {kind, described ? domstat_string(&s, domstat_kinds[kind].name) : 0,
                                   (uint32_t)a->offs, (uint32_t)a->size, (uint32_t)a->stride, a->nr,
                                   is_dom ? 24u : 8u,
                                   is_dom ? DOMSTAT_HEADER_LEN : DOMSTAT_RECORD_HEADER_LEN};
        domstat_put(&s, s.records, words, 8);
        s.records += 8;
        if (described)
            domstat_put_groups(&s, plan, kind);
    }
    while (s.strings_len % 8 != 0)
        s.strings[s.strings_len++] = '\0';
    /* "SCH" and 1. */
    const uint32_t head[8] = {0x01484353u, nr_records, 32, nr_groups, 40, nr_fields, 48, s.strings_len};
    domstat_put(&s, 0, head, 8);
    for (uint32_t i = 0; to && i < s.strings_len; i++)
        ((char *)to)[4 * strings + i] = s.strings[i];
    return 4 * strings + s.strings_len;
}

/* ---- Placement ------------------------------------------------------------------------------- */

/* Places parts one after the other: the next aligned offset, from which on `len` bytes are taken. */
static inline uint64_t domstat_place(uint64_t *at, uint64_t align, uint64_t len)
{
    const uint64_t start = domstat_round_up(*at, align);
    *at = start + len;
    return start;
}

static inline void domstat_place_array(uint64_t *at, uint64_t align, uint64_t size, uint64_t frame,
                                       uint32_t nr, struct domstat_array *out)
{
    if (nr == 0)
        return;
    out->size = size;
    out->nr = nr;
    out->stride = domstat_round_up(frame, align);
    out->offs = domstat_place(at, align, out->stride * nr);
}

/* Records that belong to those of `base`, behind them on the same page: where each starts. */
static inline uint64_t domstat_place_behind(uint64_t at, uint32_t base, const uint32_t *nr,
                                            const uint32_t *sizes, uint64_t *starts)
{
    for (uint32_t kind = DOMSTAT_KIND_BLK_QUEUE; kind <= DOMSTAT_NR_KINDS; kind++)
        if (nr[kind] > 0 && domstat_kinds[kind].base == base)
            starts[kind] = domstat_place(&at, DOMSTAT_GROUP_ALIGN, sizes[kind]);
    return at;
}

/* The header's words, without magic, state and incarnation. */
static inline void domstat_header_words(const struct domstat_plan *plan, uint32_t *w)
{
    static const uint32_t arrays[3][2] = {
        {DOMSTAT_KIND_VCPU, 2}, {DOMSTAT_KIND_BLK, 21}, {DOMSTAT_KIND_NET, 25}};
    const struct domstat_array *a = plan->arrays;
    for (size_t i = 0; i < DOMSTAT_HEADER_LEN / 4; i++)
        w[i] = 0;
    w[1] = (uint32_t)a[DOMSTAT_KIND_DOM].size;
    for (size_t i = 0; i < 3; i++) {
        const struct domstat_array *array = &a[arrays[i][0]];
        const uint32_t words[4] = {(uint32_t)array->offs, (uint32_t)array->size,
                                   (uint32_t)array->stride, array->nr};
        for (size_t j = 0; j < 4; j++)
            w[arrays[i][1] + j] = words[j];
    }
    w[8] = (uint32_t)plan->align;
    w[13] = DOMSTAT_REVISION;
    w[14] = plan->options.clock;
    w[15] = (uint32_t)a[DOMSTAT_KIND_ARCH_DOM].offs;
    w[16] = (uint32_t)a[DOMSTAT_KIND_ARCH_DOM].size;
    if (a[DOMSTAT_KIND_ARCH_VCPU].nr > 0) {
        w[17] = (uint32_t)(a[DOMSTAT_KIND_ARCH_VCPU].offs - a[DOMSTAT_KIND_VCPU].offs);
        w[18] = (uint32_t)a[DOMSTAT_KIND_ARCH_VCPU].size;
    }
    w[19] = (uint32_t)plan->schema.offs;
    w[20] = (uint32_t)plan->schema.size;
}

/* How many records of each kind are wished for, and how long one is; NULL, or why not. */
static inline const char *domstat_wishes(const struct domstat_options *o, uint32_t *nr, uint32_t *sizes)
{
    static const uint32_t known[DOMSTAT_NR_KINDS + 1] = DOMSTAT_RECORD_SIZES;
    const uint32_t wished[DOMSTAT_NR_KINDS + 1] = {
        0, 1, o->nr_vcpus, o->nr_blks, o->nr_nets, o->arch_dom.nr_groups ? 1u : 0u,
        o->arch_vcpu.nr_groups ? o->nr_vcpus : 0, o->nr_blk_queues, o->nr_net_queues,
        o->arch_blk.nr_groups ? o->nr_blks : 0, o->arch_net.nr_groups ? o->nr_nets : 0,
        o->vcpu_hists ? o->nr_vcpus : 0, o->blk_hists ? o->nr_blks : 0, o->labels ? 1u : 0u};
    uint64_t names = 0, len = 0;
    if (o->nr_vcpus == 0)
        return "a domain has a vCPU at least";
    if (o->blk_hists && known[DOMSTAT_KIND_BLK_HIST] == 0)
        return "the revision does not have distributions";
    for (uint32_t kind = DOMSTAT_KIND_DOM; kind <= DOMSTAT_NR_KINDS; kind++) {
        const struct domstat_arch *arch = domstat_arch_of(o, kind);
        nr[kind] = wished[kind];
        sizes[kind] = known[kind];
        if (nr[kind] > DOMSTAT_MAX_RECORDS)
            return "more vCPUs or devices than a region can have";
        if (arch && arch->nr_groups > 0 &&
            DOMSTAT_REVISION < (kind < DOMSTAT_KIND_BLK_QUEUE ? 4 : 5))
            return "the revision does not have such arch slots";
        if (arch && arch->nr_groups > DOMSTAT_MAX_ARCH_GROUPS)
            return "an arch slot has more groups than it can have";
        for (uint32_t i = 0; arch && i < arch->nr_groups; i++) {
            const struct domstat_arch_group *g = &arch->groups[i];
            if (g->nr_fields == 0 || g->nr_fields > DOMSTAT_MAX_ARCH_FIELDS)
                return "a group of an arch slot has no field, or too many";
            for (uint32_t f = 0; f <= g->nr_fields; f++) {
                const char *name = f == 0 ? g->name : g->fields[f - 1].name;
                const uint64_t before = names;
                while (names <= DOMSTAT_ARCH_NAMES_LEN && name[names - before] != '\0')
                    names++;
                if (names == before || names - before > 255)
                    return "names in arch slots have 1 to 255 bytes";
                if (++names > DOMSTAT_ARCH_NAMES_LEN - 8)
                    return "the names in arch slots are too long";
            }
        }
        if (arch)
            sizes[kind] = domstat_arch_size(arch);
        if (nr[kind] > 0 && sizes[kind] == 0)
            return "the revision does not have records of such a kind";
    }
    while (o->labels && len < 1024 && o->labels[len] != '\0')
        len++;
    return len < 1024 ? NULL : "the labels are longer than 1023 bytes";
}

/* Where everything of a region goes, for domstat_init(). What the options point to stays as it is for
 * as long as the plan is used. NULL, or why not. */
static inline const char *domstat_plan_of(const struct domstat_options *o, struct domstat_plan *plan)
{
    static struct domstat_plan empty;
    uint32_t nr[DOMSTAT_NR_KINDS + 1], sizes[DOMSTAT_NR_KINDS + 1], words[DOMSTAT_HEADER_LEN / 4];
    uint64_t starts[DOMSTAT_NR_KINDS + 1] = {0};
    struct domstat_array *a = plan->arrays;
    struct domstat_geometry geometry;
    const char *why = domstat_wishes(o, nr, sizes);
    if (why)
        return why;
    *plan = empty;
    plan->options = *o;
    const uint64_t align = o->align ? o->align : o->pages ? o->page_size : DOMSTAT_PACKED_ALIGN;
    if (o->page_size == 0 || align % (o->pages ? o->page_size : 8) != 0 || (align & (align - 1)) != 0)
        return "the alignment is not a power of two that holds a word, or a page";
    plan->align = align;
    /* Arch slots and, on pages of their own, what belongs to a record lie close behind it. */
    uint64_t at = sizes[DOMSTAT_KIND_DOM];
    domstat_place_array(&at, DOMSTAT_GROUP_ALIGN, at, at, 1, &a[DOMSTAT_KIND_DOM]);
    a[DOMSTAT_KIND_DOM].offs = 0;
    a[DOMSTAT_KIND_DOM].stride = at = sizes[DOMSTAT_KIND_DOM];
    if (nr[DOMSTAT_KIND_ARCH_DOM] > 0) {
        const uint64_t size = sizes[DOMSTAT_KIND_ARCH_DOM];
        a[DOMSTAT_KIND_ARCH_DOM].offs = domstat_place(&at, DOMSTAT_GROUP_ALIGN, size);
        a[DOMSTAT_KIND_ARCH_DOM].size = a[DOMSTAT_KIND_ARCH_DOM].stride = size;
        a[DOMSTAT_KIND_ARCH_DOM].nr = 1;
    }
    if (o->pages)
        domstat_place_array(&at, DOMSTAT_GROUP_ALIGN, sizes[DOMSTAT_KIND_LABELS],
                            sizes[DOMSTAT_KIND_LABELS], nr[DOMSTAT_KIND_LABELS],
                            &a[DOMSTAT_KIND_LABELS]);
    const uint64_t vcpu_offs = o->vcpu_offs ? o->vcpu_offs : domstat_round_up(at, align);
    if (vcpu_offs < at || vcpu_offs % align != 0)
        return "vcpu_offs is inside the dom record, or not aligned";
    at = sizes[DOMSTAT_KIND_VCPU];
    uint64_t arch_vcpu = 0;
    if (nr[DOMSTAT_KIND_ARCH_VCPU] > 0)
        arch_vcpu = domstat_place(&at, DOMSTAT_GROUP_ALIGN, sizes[DOMSTAT_KIND_ARCH_VCPU]);
    if (o->pages)
        at = domstat_place_behind(at, DOMSTAT_KIND_VCPU, nr, sizes, starts);
    const uint64_t vcpu_stride = o->vcpu_stride ? o->vcpu_stride : domstat_round_up(at, align);
    if (vcpu_stride < at || vcpu_stride % align != 0)
        return "vcpu_stride is shorter than a vcpu record, or not aligned";
    at = vcpu_offs;
    domstat_place_array(&at, align, sizes[DOMSTAT_KIND_VCPU], vcpu_stride, nr[DOMSTAT_KIND_VCPU],
                        &a[DOMSTAT_KIND_VCPU]);
    if (arch_vcpu > 0) {
        a[DOMSTAT_KIND_ARCH_VCPU] = a[DOMSTAT_KIND_VCPU];
        a[DOMSTAT_KIND_ARCH_VCPU].offs += arch_vcpu;
        a[DOMSTAT_KIND_ARCH_VCPU].size = sizes[DOMSTAT_KIND_ARCH_VCPU];
    }
    for (uint32_t kind = DOMSTAT_KIND_BLK; kind <= DOMSTAT_KIND_NET; kind++) {
        uint64_t frame = sizes[kind];
        if (o->pages)
            frame = domstat_place_behind(frame, kind, nr, sizes, starts);
        domstat_place_array(&at, align, sizes[kind], frame, nr[kind], &a[kind]);
    }
    for (uint32_t kind = DOMSTAT_KIND_BLK_QUEUE; kind <= DOMSTAT_NR_KINDS; kind++) {
        if (nr[kind] > 0 && starts[kind] > 0) {
            a[kind] = a[domstat_kinds[kind].base];
            a[kind].offs += starts[kind];
            a[kind].size = sizes[kind];
        } else if (a[kind].nr == 0) {
            domstat_place_array(&at, align, sizes[kind], sizes[kind], nr[kind], &a[kind]);
        }
    }
    if (at > DOMSTAT_MAX_REGION_LEN)
        return "the region is longer than one can be";
    int beyond_header = 0;
    for (uint32_t kind = DOMSTAT_KIND_BLK_QUEUE; kind <= DOMSTAT_NR_KINDS; kind++)
        beyond_header |= nr[kind] > 0;
    if (DOMSTAT_REVISION < 4)
        plan->options.no_schema = 1;
    /* Last, so that the header alone says where the region ends. */
    if (!plan->options.no_schema || beyond_header) {
        plan->schema.size = domstat_schema(plan, NULL);
        plan->schema.offs = domstat_place(&at, align, plan->schema.size);
    }
    plan->len = domstat_round_up(at, o->page_size);
    domstat_header_words(plan, words);
    words[0] = DOMSTAT_DOM_MAGIC;
    /* A reader's own check has the last word on what was planned. */
    return domstat_check_header(words, plan->len, &geometry);
}

#endif
