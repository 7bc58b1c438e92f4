/* Reading a region from C: the one loop that every read is. Include a revision's header first.
 * Needs the __atomic builtins of gcc and clang; with C11, use stdatomic.h in the same way. Relaxed
 * loads and acquire fences only: nothing stronger works on every read-only page. */
#ifndef DOMSTAT_READ_H
#define DOMSTAT_READ_H

#include <stddef.h>
#include <stdint.h>

#define DOMSTAT_SPINS 1000

static inline uint32_t domstat_load32(const uint32_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static inline uint64_t domstat_load64(const uint64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

/* Copies the group of `size` bytes at `offset` of a record to `copy`. 1 if it is produced and was
 * copied whole; 0 if it is not produced, or the record was built by a producer that does not know
 * it; -1 if its writer was in mid-update all the time. */
static inline int domstat_read_group(const char *record, size_t record_size,
                                     const uint64_t *active, unsigned bit, size_t offset,
                                     size_t size, void *copy)
{
    if (size > record_size || offset > record_size - size)
        return 0;
    const uint32_t *seq = (const uint32_t *)(record + offset);
    const uint64_t *words = (const uint64_t *)(record + offset);
    for (int i = 0; i < DOMSTAT_SPINS; i++) {
        uint32_t begin = domstat_load32(seq);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        int is_active = (domstat_load64(active) >> bit & 1) != 0;
        for (size_t w = 1; w < size / 8; w++)
            ((uint64_t *)copy)[w] = domstat_load64(&words[w]);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if ((begin & 1) == 0 && domstat_load32(seq) == begin)
            return is_active;
        if (!is_active)
            return 0;
    }
    return -1;
}

#endif
