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

/* One attempt to copy the group of `size` bytes at `group`: 1 if it is produced and was copied whole, 0 if
 * it is not produced, -1 if its writer was or is in mid-update. */
static inline int domstat_try_group(const char *group, const uint64_t *active, unsigned bit,
                                    size_t size, void *copy)
{
    const uint32_t *seq = (const uint32_t *)group;
    const uint64_t *words = (const uint64_t *)group;
    uint32_t begin = domstat_load32(seq);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    int is_active = (domstat_load64(active) >> bit & 1) != 0;
    for (size_t w = 1; w < size / 8; w++)
        ((uint64_t *)copy)[w] = domstat_load64(&words[w]);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if ((begin & 1) == 0 && domstat_load32(seq) == begin)
        return is_active;
    return is_active ? -1 : 0;
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
    for (int i = 0; i < DOMSTAT_SPINS; i++) {
        int found = domstat_try_group(record + offset, active, bit, size, copy);
        if (found >= 0)
            return found;
    }
    return -1;
}

/* As domstat_read_group(), of a group that has a second copy, its twin: at `twin_offset`, with
 * `twin_bit`. While the writer is in the first copy the second is read, so that a writer that never
 * pauses does not starve the reader, and one that died in mid-update leaves a value. */
static inline int domstat_read_twins(const char *record, size_t record_size,
                                     const uint64_t *active, unsigned bit, size_t offset,
                                     unsigned twin_bit, size_t twin_offset, size_t size, void *copy)
{
    if (size > record_size || offset > record_size - size)
        return 0;
    int has_twin = twin_offset <= record_size - size;
    for (int i = 0; i < DOMSTAT_SPINS; i++) {
        int found = domstat_try_group(record + offset, active, bit, size, copy);
        if (found >= 0)
            return found;
        /* A twin that is not active says nothing about the first copy. */
        if (has_twin && domstat_try_group(record + twin_offset, active, twin_bit, size, copy) == 1)
            return 1;
    }
    return -1;
}

/* The runstate as of `now`, on the region's clock: the time since it was written was spent in its
 * state, and is added to that state's time. Unchanged if the state or its time is not produced, or if
 * `now` is earlier. Not meant for a region that is retired: its time has ended. */
static inline void domstat_runstate_at(struct domstat_vcpu_runstate *runstate, uint64_t now)
{
    uint64_t *const times[] = {&runstate->running_ns, &runstate->runnable_ns, &runstate->blocked_ns,
                               &runstate->offline_ns};
    if (runstate->state >= sizeof(times) / sizeof(*times) || now <= runstate->updated_ns)
        return;
    uint64_t *time = times[runstate->state];
    const uint64_t since = now - runstate->updated_ns;
    if (*time < DOMSTAT_SATURATED)
        *time = since < DOMSTAT_SATURATED - *time ? *time + since : DOMSTAT_SATURATED;
}

/* The smallest and the largest value that bucket `index` of the `nr` of a distribution counts, values
 * by their bit length; the last has no largest and says UINT64_MAX. 0 if there is no such bucket. */
static inline int domstat_bucket_bounds(unsigned index, unsigned nr, uint64_t *least,
                                        uint64_t *most)
{
    if (index >= nr || index > 64)
        return 0;
    *least = index == 0 ? 0 : (uint64_t)1 << (index - 1);
    *most = index + 1 == nr || index == 64 ? UINT64_MAX : ((uint64_t)1 << index) - 1;
    return 1;
}

/* The bounds of the bucket of the value that `thousandths` of all values do not exceed (500: the
 * median); no more is known of it. 1 if there is one; 0 if there are no values, or a bucket is not
 * produced or saturated. For the values of an interval, give the differences of two reads. */
static inline int domstat_percentile(const uint64_t *buckets, unsigned nr, unsigned thousandths,
                                     uint64_t *least, uint64_t *most)
{
    uint64_t count = 0, below = 0;
    for (unsigned i = 0; i < nr; i++) {
        if (buckets[i] >= DOMSTAT_SATURATED || count + buckets[i] < count)
            return 0;
        count += buckets[i];
    }
    if (count == 0 || count >= DOMSTAT_SATURATED)
        return 0;
    if (thousandths > 1000)
        thousandths = 1000;
    /* count * thousandths / 1000, rounded up, in parts that do not wrap. */
    uint64_t rank = count / 1000 * thousandths + (count % 1000 * thousandths + 999) / 1000;
    if (rank == 0)
        rank = 1;
    for (unsigned i = 0; i < nr; i++) {
        below += buckets[i];
        if (below >= rank)
            return domstat_bucket_bounds(i, nr, least, most);
    }
    return 0;
}

#endif
