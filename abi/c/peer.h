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

enum { NR_VCPUS = 3, NR_BLKS = 2, NR_NETS = 1, NR_BLK_QUEUES = 4, NR_NET_QUEUES = 1 };

/* Kinds of record, by their number in a schema. */
enum { DOM = 1, VCPU = 2, BLK = 3, NET = 4, BLK_QUEUE = 7, NET_QUEUE = 8, VCPU_HIST = 11,
       BLK_HIST = 12, LABELS = 13 };

/* Words of a schema, each a uint32_t: those of its header, then those of each entry of its table of
 * records. Other entries may be longer. */
enum { SCHEMA_MAGIC, SCHEMA_NR, SCHEMA_LEN, SCHEMA_HEADER = 8 };
enum { ENTRY_KIND, ENTRY_NAME, ENTRY_OFFS, ENTRY_SIZE, ENTRY_STRIDE, ENTRY_NR, ENTRY_ACTIVE,
       ENTRY_HEADER, ENTRY_WORDS };

/* The number of the field at `offset` of record `index`. */
static inline uint64_t number(unsigned kind, unsigned index, size_t offset)
{
    return (uint64_t)kind * 1000000u + index * 10000u + offset;
}

/* The bucket of all values of the distribution at this bit, and one of those values. The groups of a
 * share have the bits of the device's, and 6 more. */
static inline unsigned bucket(unsigned bit)
{
    return 4 + bit % 6;
}

static inline uint64_t recorded(unsigned bit)
{
    return (uint64_t)1 << (bucket(bit) - 1);
}

static inline uint32_t load32(const uint32_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static inline uint64_t load64(const uint64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static inline void fail(const char *what)
{
    perror(what);
    exit(1);
}
