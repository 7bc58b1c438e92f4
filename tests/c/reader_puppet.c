/* A reader in C, by read.h and region.h, that `domstat conform reader` drives: its protocol stands in
 * docs/spec.md. With an argument it has that fault, which the kit must find:
 *
 *     cc -std=gnu11 -O2 -I layout/include/domstat tests/c/reader_puppet.c -o reader
 *     domstat conform reader -- ./reader
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "r5.h"

#include "write.h"

#include "region.h"

static const char *fault = "";

static int has(const char *name)
{
    return strcmp(fault, name) == 0;
}

/* The twin of a group, if it has one. */
static const struct domstat_group *twin_of(const struct domstat_group *g)
{
    for (size_t i = 0; i < sizeof(domstat_groups) / sizeof(*domstat_groups); i++)
        if (domstat_groups[i].kind == g->kind && domstat_groups[i].twin_of == g->bit + 1)
            return &domstat_groups[i];
    return NULL;
}

/* A copy of a group, read wrongly. */
static int copy_wrongly(const char *record, const uint64_t *active, const struct domstat_group *g,
                        size_t size, void *copy)
{
    const uint32_t *seq = (const uint32_t *)(record + g->offset);
    const int is_active = (domstat_load64(active) >> g->bit & 1) != 0;
    if (has("ends-where-a-group-begins") && g->offset < size)
        size = g->offset + g->size;
    if (g->offset + g->size > size)
        return has("reads-past-the-record") && is_active ? 1 : 0;
    for (long i = 0; has("waits-without-a-bound") || i < DOMSTAT_SPINS; i++) {
        const uint32_t begin = domstat_load32(seq);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        for (size_t w = 1; w < g->size / 8; w++)
            ((uint64_t *)copy)[w] = domstat_load64((const uint64_t *)(record + g->offset) + w);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (!is_active && !has("ignores-bits") && !has("waits-for-what-is-not-active"))
            return 0;
        if (has("does-not-look-at-seq"))
            return 1;
        if (begin % 2 == 0 && (has("looks-at-seq-once") || domstat_load32(seq) == begin))
            return is_active || has("ignores-bits");
    }
    return -1;
}

static int read_group(const char *record, const uint64_t *active, const struct domstat_group *g,
                      size_t size, void *copy)
{
    const struct domstat_group *twin = twin_of(g);
    static const char *const faults[] = {"ends-where-a-group-begins", "reads-past-the-record",
                                         "waits-without-a-bound", "ignores-bits",
                                         "waits-for-what-is-not-active", "does-not-look-at-seq",
                                         "looks-at-seq-once", "knows-no-twins"};
    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++)
        if (has(faults[i])) {
            int found = copy_wrongly(record, active, g, size, copy);
            if (found == -1 && twin && !has("knows-no-twins") &&
                copy_wrongly(record, active, twin, size, copy) == 1)
                found = 1;
            return found;
        }
    if (twin)
        return domstat_read_twins(record, size, active, g->bit, g->offset, twin->bit, twin->offset,
                                  g->size, copy);
    return domstat_read_group(record, size, active, g->bit, g->offset, g->size, copy);
}

static void print_word(uint64_t word)
{
    if (word == DOMSTAT_NOT_PRODUCED && !has("not-produced-is-a-number"))
        fputs(has("not-produced-is-0") ? "0" : "not-produced", stdout);
    else if (word == DOMSTAT_SATURATED && !has("saturated-is-a-number"))
        fputs("saturated", stdout);
    else if (has("signed"))
        printf("%lld", (long long)word);
    else if (has("floating-point"))
        printf("%.0f", (double)word);
    else
        printf("%llu", (unsigned long long)word);
}

/* Whether `len` bytes are UTF-8. */
static int is_utf8(const unsigned char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        const int more = s[i] < 0x80 ? 0 : s[i] >> 5 == 6 && s[i] >= 0xc2 ? 1 : s[i] >> 4 == 14 ? 2
                         : s[i] >> 3 == 30 && s[i] <= 0xf4 ? 3 : -1;
        if (more < 0 || i + (size_t)more >= len)
            return 0;
        for (int j = 1; j <= more; j++)
            if (s[i + (size_t)j] >> 6 != 2)
                return 0;
        i += (size_t)more + 1;
    }
    return 1;
}

static void print_hex(const char *as, const unsigned char *bytes, size_t len)
{
    fputs(as, stdout);
    for (size_t i = 0; i < len; i++)
        printf("%02x", bytes[i]);
}

static void print_field(const struct domstat_field *f, const unsigned char *copy)
{
    const unsigned char *at = copy + f->offset;
    if (f->kind == 8) { /* text */
        const size_t len = strnlen((const char *)at, f->width);
        if ((len < f->width && is_utf8(at, len)) || has("text-without-an-end"))
            print_hex("text:", at, len);
        else
            fputs("not-produced", stdout);
    } else if (f->width == 16) {
        int produced = 0;
        for (size_t i = 0; i < 16; i++)
            produced |= at[i] != 0xff;
        if (produced)
            print_hex("bytes:", at, 16);
        else
            fputs("not-produced", stdout);
    } else {
        for (size_t i = 0; i < f->width; i += 8) {
            uint64_t word;
            memcpy(&word, at + i, 8);
            if (i > 0)
                putchar(',');
            print_word(word);
        }
    }
    putchar('\n');
}

static void print_group(const char *record, size_t size, const struct domstat_group *g,
                        const char *kind, unsigned index)
{
    static uint64_t copy[1024];
    const uint64_t *active = (const uint64_t *)(record + (g->kind == DOMSTAT_KIND_DOM ? 24 : 8));
    const int found = read_group(record, active, g, size, copy);
    if (found != 1) {
        printf("group %s %u %s %s\n", kind, index, g->name, found == 0 ? "inactive" : "stalled");
        return;
    }
    printf("field %s %u %s updated_ns %llu\n", kind, index, g->name, (unsigned long long)copy[1]);
    for (uint32_t i = 0; i < g->nr_fields; i++) {
        printf("field %s %u %s %s ", kind, index, g->name, g->fields[i].name);
        print_field(&g->fields[i], (const unsigned char *)copy);
    }
}

static void print_kind(const char *map, const struct domstat_array *array, uint32_t kind)
{
    const char *name = domstat_kinds[kind].name;
    for (uint32_t i = 0; i < array->nr; i++) {
        const char *record = domstat_record(map, array, i);
        if (has("steps-by-size"))
            record = map + array->offs + i * array->size;
        if (kind != DOMSTAT_KIND_DOM)
            printf("generation %s %u %u\n", name, i, domstat_load32((const uint32_t *)(record + 16)));
        for (size_t g = 0; g < sizeof(domstat_groups) / sizeof(*domstat_groups); g++)
            if (domstat_groups[g].kind == kind && domstat_groups[g].twin_of == 0)
                print_group(record, array->size, &domstat_groups[g], name, i);
    }
}

static const char *map_region(const char *path, size_t *len)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        exit(2);
    *len = (size_t)st.st_size;
    const char *map = mmap(NULL, *len, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        exit(2);
    return map;
}

static void read_region(const char *path)
{
    static const char *const states[] = {"initializing", "live", "retired"};
    static const char *const clocks[] = {"unknown", "monotonic", "boottime", "xen"};
    struct domstat_array arrays[DOMSTAT_LAST_KIND + 1];
    struct domstat_geometry g;
    size_t len;
    const char *map = map_region(path, &len), *why = domstat_attach(map, len, &g);
    if (!why && has("refuses-later-revisions") && g.revision > 5)
        why = "a later revision";
    if (why && !has("takes-every-header")) {
        printf("refuse %s\n", why);
    } else {
        const uint32_t state = len >= 128 ? domstat_state(map) : 3;
        printf("region %s %s %llu\n", state < 3 ? states[state] : "unknown",
               g.clock < 4 ? clocks[g.clock] : "unknown", (unsigned long long)g.incarnation);
        why = domstat_attach_records(map, len, &g, arrays);
        for (uint32_t kind = 1; kind <= DOMSTAT_LAST_KIND; kind++)
            if (domstat_kinds[kind].magic != domstat_kinds[DOMSTAT_KIND_ARCH_DOM].magic)
                print_kind(map, &arrays[kind], kind);
        if (why && has("refuses-for-the-schema"))
            printf("refuse %s\n", why);
    }
    munmap((void *)(uintptr_t)map, len);
}

/* Reads vCPU 0's runstate, in a new mapping. */
static void read_runstate(const char *path)
{
    const struct domstat_group *group = domstat_groups;
    struct domstat_geometry g;
    size_t len;
    const char *map = map_region(path, &len);
    uint64_t copy[8];
    while (group->kind != DOMSTAT_KIND_VCPU)
        group++;
    if (domstat_attach(map, len, &g) == NULL) {
        const char *record = domstat_record(map, &g.vcpus, 0);
        const int found = read_group(record, domstat_active(record), group, g.vcpus.size, copy);
        if (found == 1) {
            fputs("values", stdout);
            for (int i = 1; i < 8; i++)
                printf(" %llu", (unsigned long long)copy[i]);
            puts("");
        } else {
            puts(found == 0 ? "inactive" : "stalled");
        }
    }
    munmap((void *)(uintptr_t)map, len);
}

int main(int argc, char **argv)
{
    char line[4096], path[4096];
    unsigned count;
    if (argc > 1)
        fault = argv[1];
    while (fgets(line, sizeof(line), stdin)) {
        if (strncmp(line, "hello ", 6) == 0)
            puts("reader 1 5 beyond");
        else if (sscanf(line, "read %4095s", path) == 1)
            read_region(path);
        else if (sscanf(line, "repeat %u %4095s vcpu 0 runstate", &count, path) == 2)
            while (count-- > 0)
                read_runstate(path);
        puts("end");
        fflush(stdout);
    }
    return 0;
}
