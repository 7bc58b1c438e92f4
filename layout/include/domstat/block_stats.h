/* A block device's statistics as libvirt hands them out: structures that only grow at their end, and
 * a size that says which one the caller was compiled with. Include a revision's header first: with
 * revision 2 the newest structure is V1, from revision 3 on it is V2. */
#ifndef DOMSTAT_BLOCK_STATS_H
#define DOMSTAT_BLOCK_STATS_H

#include <errno.h>
#include <string.h>

#include "read.h"

#if DOMSTAT_REVISION < 2
#error "block devices came with revision 2"
#endif

/* In each, -1 says that the value is not produced. Times are in nanoseconds. */
struct domstat_block_stats_v1 {
    int64_t rd_req, rd_bytes, wr_req, wr_bytes, errs;
};

#if DOMSTAT_REVISION >= 3
struct domstat_block_stats_v2 {
    int64_t rd_req, rd_bytes, wr_req, wr_bytes, errs;
    int64_t rd_total_times, wr_total_times, flush_req, flush_total_times;
};
typedef struct domstat_block_stats_v2 domstat_block_stats;
#else
typedef struct domstat_block_stats_v1 domstat_block_stats;
#endif

/* A published word as these structures hold it. */
static inline int64_t domstat_signed(uint64_t word)
{
    if (word == DOMSTAT_NOT_PRODUCED)
        return -1;
    return word > (uint64_t)INT64_MAX ? INT64_MAX : (int64_t)word;
}

/* Fills the first `size` bytes of the structure that the caller knows, from the blk record at
 * `record`, which its producer built `record_size` long. 0; EINVAL if `size` is more than the newest
 * structure known here; EAGAIN if the writer was in mid-update all the time. */
static inline int domstat_read_block_stats(const void *record, size_t record_size, void *stats,
                                           size_t size)
{
    const char *base = (const char *)record;
    const uint64_t *active =
        (const uint64_t *)(base + offsetof(struct domstat_record_header, stats_active));
    struct domstat_blk_io io;
    domstat_block_stats all;
    int got;

    if (size > sizeof all)
        return EINVAL;
    memset(&all, 0xff, sizeof all);
    got = domstat_read_group(base, record_size, active, DOMSTAT_BLK_IO_BIT,
                             offsetof(struct domstat_blk, io), sizeof io, &io);
    if (got < 0)
        return EAGAIN;
    if (got == 1) {
        all.rd_req = domstat_signed(io.rd_req);
        all.rd_bytes = domstat_signed(io.rd_bytes);
        all.wr_req = domstat_signed(io.wr_req);
        all.wr_bytes = domstat_signed(io.wr_bytes);
        all.errs = domstat_signed(io.errs);
    }
#if DOMSTAT_REVISION >= 3
    if (size > sizeof(struct domstat_block_stats_v1)) {
        struct domstat_blk_io_times times;
        got = domstat_read_group(base, record_size, active, DOMSTAT_BLK_IO_TIMES_BIT,
                                 offsetof(struct domstat_blk, io_times), sizeof times, &times);
        if (got < 0)
            return EAGAIN;
        if (got == 1) {
            all.rd_total_times = domstat_signed(times.rd_total_ns);
            all.wr_total_times = domstat_signed(times.wr_total_ns);
            all.flush_req = domstat_signed(times.flush_req);
            all.flush_total_times = domstat_signed(times.flush_total_ns);
        }
    }
#endif
    memcpy(stats, &all, size);
    return 0;
}

#endif
