/* Sums of the shares of a device, for readers in C: a device that several threads or processes serve
 * has a share for each of them (revision 5). Include it after a revision's header.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * While a share of a device has a group active, the truth is the sum over its shares, which is what
 * was written and nothing else: it is never smaller than before for as long as the device's
 * generation lasts. Nothing is allocated. A sum looks at every share of the region, so that many
 * devices are better summed in one pass over the shares: domstat_share_of() and domstat_add_share(). */
#ifndef DOMSTAT_SHARES_H
#define DOMSTAT_SHARES_H

#include "region.h"

#if DOMSTAT_REVISION < 5
#error "shares came with revision 5"
#endif

/* How often a sum begins again because a slot was given to another meanwhile. */
#define DOMSTAT_PASSES 8

/* What a sum may be instead of 1 (a sum), 0 (not produced) and -1 (busy all the time). */
#define DOMSTAT_NO_SHARE 2

/* A group that shares have: where it lies in a share's record, and which of its words after the header
 * is a peak (0 if none). */
struct domstat_shared {
    uint32_t kind, device_kind, bit, peak;
    size_t offset, size;
};

#define DOMSTAT_SHARED_BLK(group, GROUP, peak)                                                     \
    {7, 3, DOMSTAT_BLK_QUEUE_##GROUP##_BIT, peak, offsetof(struct domstat_blk_queue_record, group), \
     sizeof(struct domstat_blk_queue_##group)}

static const struct domstat_shared domstat_blk_shared_io = DOMSTAT_SHARED_BLK(io, IO, 0);
static const struct domstat_shared domstat_blk_shared_io_times =
    DOMSTAT_SHARED_BLK(io_times, IO_TIMES, 0);
static const struct domstat_shared domstat_blk_shared_queue = DOMSTAT_SHARED_BLK(queue, QUEUE, 0);
static const struct domstat_shared domstat_blk_shared_discards =
    DOMSTAT_SHARED_BLK(discards, DISCARDS, 0);
static const struct domstat_shared domstat_blk_shared_failures =
    DOMSTAT_SHARED_BLK(failures, FAILURES, 0);
static const struct domstat_shared domstat_blk_shared_rd_latency =
    DOMSTAT_SHARED_BLK(rd_latency, RD_LATENCY, 1);
static const struct domstat_shared domstat_blk_shared_wr_latency =
    DOMSTAT_SHARED_BLK(wr_latency, WR_LATENCY, 1);
static const struct domstat_shared domstat_blk_shared_fl_latency =
    DOMSTAT_SHARED_BLK(fl_latency, FL_LATENCY, 1);
static const struct domstat_shared domstat_blk_shared_rd_size =
    DOMSTAT_SHARED_BLK(rd_size, RD_SIZE, 1);
static const struct domstat_shared domstat_blk_shared_wr_size =
    DOMSTAT_SHARED_BLK(wr_size, WR_SIZE, 1);
static const struct domstat_shared domstat_net_shared_io = {
    8, 4, DOMSTAT_NET_QUEUE_IO_BIT, 0, offsetof(struct domstat_net_queue_record, io),
    sizeof(struct domstat_net_queue_io)};

/* Which tenant has the slot of a record, other than the dom record's. */
static inline uint32_t domstat_generation(const char *record)
{
    return domstat_load32((const uint32_t *)(record + 16));
}

/* domstat_read_group() with attempts that several reads share; there is always one. */
static inline int domstat_read_patiently(const char *record, size_t record_size, unsigned bit,
                                         size_t offset, size_t size, int *spins, void *copy)
{
    if (size > record_size || offset > record_size - size)
        return 0;
    for (;;) {
        const int found =
            domstat_try_group(record + offset, domstat_active(record), bit, size, copy);
        if (found >= 0 || *spins <= 0)
            return found;
        --*spins;
    }
}

/* A share that counts: its device, the generation of that, and the tenant of the share's own slot. */
struct domstat_share {
    uint32_t device, generation, slot_generation;
};

/* Of which device share `slot` of an array is: `shares` is arrays[7] or arrays[8] of
 * domstat_attach_records(), `devices` arrays[3] or arrays[4]. 1 if it counts; 0 if it was not given
 * out, or is of a device that there is not, or no longer; -1 if it is being given out. */
static inline int domstat_share_of(const void *map, const struct domstat_array *shares,
                                   const struct domstat_array *devices, uint32_t slot, int *spins,
                                   struct domstat_share *share)
{
    /* The same in the record of an interface's share. */
    struct domstat_blk_queue_of of;
    const char *record = domstat_record(map, shares, slot);
    const uint32_t before = domstat_generation(record);
    const int found = domstat_read_patiently(record, shares->size, DOMSTAT_BLK_QUEUE_OF_BIT,
                                             offsetof(struct domstat_blk_queue_record, of),
                                             sizeof(of), spins, &of);
    if (found != 1)
        return found;
    if (domstat_generation(record) != before)
        return -1;
    if (of.device >= devices->nr)
        return 0;
    share->device = (uint32_t)of.device;
    share->generation = domstat_generation(domstat_record(map, devices, share->device));
    share->slot_generation = before;
    return of.generation == share->generation;
}

/* Adds the group of `size` bytes of a share to `sum`, which is of the same type. Words add up, the
 * word `peak` takes the larger; one that is not produced makes the sum not produced, a saturated one
 * leaves it saturated. `updated_ns` is that of the newer. */
static inline void domstat_add_share(void *sum, const void *share, size_t size, uint32_t peak)
{
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)share;
    if (from[1] > to[1])
        to[1] = from[1];
    for (size_t w = 2; w < size / 8; w++) {
        const uint64_t a = to[w], b = from[w];
        if (a == DOMSTAT_NOT_PRODUCED || b == DOMSTAT_NOT_PRODUCED)
            to[w] = DOMSTAT_NOT_PRODUCED;
        else if (peak != 0 && w == 2 + peak)
            to[w] = a > b ? a : b;
        else
            to[w] = a + b < a || a + b >= DOMSTAT_SATURATED ? DOMSTAT_SATURATED : a + b;
    }
}

/* One pass over the shares of a device. -1 if one of them is busy, -2 if a slot was given to another. */
static inline int domstat_sum_once(const void *map, const struct domstat_array *arrays,
                                   const struct domstat_shared *group, uint32_t device, int *spins,
                                   void *sum)
{
    const struct domstat_array *shares = &arrays[group->kind], *devices = &arrays[group->device_kind];
    /* As long as the longest group of a share. */
    struct domstat_blk_queue_rd_latency copy;
    struct domstat_share first = {0, 0, 0}, share;
    int nr = 0, summed = 0, lacks = 0;
    for (uint32_t slot = 0; slot < shares->nr; slot++) {
        if (domstat_share_of(map, shares, devices, slot, spins, &share) != 1 ||
            share.device != device)
            continue;
        if (nr++ == 0)
            first = share;
        const char *record = domstat_record(map, shares, slot);
        const int found = domstat_read_patiently(record, shares->size, group->bit, group->offset,
                                                 group->size, spins, &copy);
        if (found < 0)
            return -1;
        if (domstat_generation(record) != share.slot_generation ||
            share.generation != first.generation)
            return -2;
        if (found == 0) {
            lacks = 1;
        } else if (summed++ == 0) {
            for (size_t w = 1; w < group->size / 8; w++)
                ((uint64_t *)sum)[w] = ((const uint64_t *)(const void *)&copy)[w];
        } else {
            domstat_add_share(sum, &copy, group->size, group->peak);
        }
    }
    if (nr == 0)
        return DOMSTAT_NO_SHARE;
    if (domstat_generation(domstat_record(map, devices, device)) != first.generation)
        return -2;
    return summed == 0 ? DOMSTAT_NO_SHARE : !lacks;
}

/* What the shares of block device or interface `device` sum to, of `group` (domstat_blk_shared_io and
 * the like), in `sum`, which is a struct domstat_blk_queue_io or the like; its seq stays as it is.
 * `arrays` are those of domstat_attach_records(). 1 if there is a sum; 0 if a share does not produce the
 * group, and so the device does not; DOMSTAT_NO_SHARE if none of its shares has it, and the device's own
 * group is the truth; -1 if a share's writer was in mid-update all the time, or slots were given out. */
static inline int domstat_sum_shares(const void *map, const struct domstat_array *arrays,
                                     const struct domstat_shared *group, uint32_t device, void *sum)
{
    int spins = DOMSTAT_SPINS;
    for (int pass = 0; pass < DOMSTAT_PASSES; pass++) {
        const int found = domstat_sum_once(map, arrays, group, device, &spins, sum);
        if (found != -2)
            return found;
    }
    return -1;
}

#endif
