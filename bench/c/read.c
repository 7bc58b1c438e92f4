/* The C reader's side of the table "One field, and one vCPU". */
#include "r4.h"

#include "read.h"

__attribute__((noinline)) static uint64_t read_one(const char *record, size_t record_size)
{
    struct domstat_vcpu_runstate runstate;
    const uint64_t *active =
        (const uint64_t *)(record + offsetof(struct domstat_record_header, stats_active));
    if (domstat_read_group(record, record_size, active, DOMSTAT_VCPU_RUNSTATE_BIT,
                           offsetof(struct domstat_vcpu, runstate), sizeof runstate,
                           &runstate) != 1)
        return 0;
    return runstate.running_ns;
}

/* Reads the record's runstate `n` times; how often it was the wanted one. */
uint64_t domstat_bench_read(const char *record, size_t record_size, uint64_t n, uint64_t wanted)
{
    uint64_t right = 0;
    while (n-- > 0)
        right += read_one(record, record_size) == wanted;
    return right;
}
