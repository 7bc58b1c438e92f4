/* What the producer and the consumer share: which revision, and the numbers that each field is
 * given. Compiled once for each revision: -DPEER_HEADER='"r1.h"'. */
#include PEER_HEADER

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NR_VCPUS = 3, NR_BLKS = 2, NR_NETS = 1 };

/* Kinds of record, by their number in a schema. */
enum { DOM = 1, VCPU = 2, BLK = 3, NET = 4 };

/* The number of the field at `offset` of record `index`. */
static inline uint64_t number(unsigned kind, unsigned index, size_t offset)
{
    return (uint64_t)kind * 1000000u + index * 10000u + offset;
}

static inline uint32_t load32(const uint32_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static inline uint64_t load64(const uint64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static inline void store32(uint32_t *at, uint32_t value)
{
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
}

static inline void store64(uint64_t *at, uint64_t value)
{
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
}

static inline void fail(const char *what)
{
    perror(what);
    exit(1);
}
