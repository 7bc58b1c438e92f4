/* The group `queue` of a block device whose requests are followed from submission to completion. Include
 * it after write.h or publish.h; revision 5.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *     domstat_requests_begin(&requests, now);
 *     domstat_submit(&requests, now);               // a request is accepted
 *     domstat_complete(&requests, now);             // it has ended, in whatever way
 *     domstat_write_blk_queue(record, &requests.queue, requests.as_of);
 *
 * Calls for one device exclude each other: its thread makes them, or a lock is held. */
#ifndef DOMSTAT_REQUESTS_H
#define DOMSTAT_REQUESTS_H

#include "write.h"

#if DOMSTAT_REVISION < 5
#error "its groups are those of revision 5"
#endif

/* Requests in flight, and what the group says as of `as_of`. */
struct domstat_requests {
    struct domstat_blk_queue queue;
    uint64_t in_flight, as_of;
};

/* Nothing is in flight, from `now` on. */
static inline void domstat_requests_begin(struct domstat_requests *to, uint64_t now)
{
    to->queue.busy_ns = to->queue.queued_ns = to->queue.submitted = to->queue.completed = 0;
    to->in_flight = 0;
    to->as_of = now;
}

/* Brings both times up to now; a clock that goes back stands still. */
static inline void domstat_requests_pass(struct domstat_requests *to, uint64_t now)
{
    const uint64_t passed = now > to->as_of ? now - to->as_of : 0;
    const uint64_t nr = to->in_flight;
    to->as_of += passed;
    if (nr == 0)
        return;
    to->queue.busy_ns = domstat_plus(to->queue.busy_ns, passed);
    to->queue.queued_ns = domstat_plus(
        to->queue.queued_ns, passed > DOMSTAT_SATURATED / nr ? DOMSTAT_SATURATED : passed * nr);
}

/* A request is accepted. */
static inline void domstat_submit(struct domstat_requests *to, uint64_t now)
{
    domstat_requests_pass(to, now);
    to->in_flight++;
    to->queue.submitted = domstat_plus(to->queue.submitted, 1);
}

/* A request has ended, in whatever way. One that was not submitted, because it was in flight before
 * requests were followed, is not counted. */
static inline void domstat_complete(struct domstat_requests *to, uint64_t now)
{
    if (to->in_flight == 0)
        return;
    domstat_requests_pass(to, now);
    to->in_flight--;
    to->queue.completed = domstat_plus(to->queue.completed, 1);
}

#endif
