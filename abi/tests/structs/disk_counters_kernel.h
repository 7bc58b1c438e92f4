/*
 * The same counters as a back end in the kernel could publish them: packed, and requests before
 * sectors. No reader of one layout reads the other.
 */
#include <stdint.h>

struct disk_counters {
	uint32_t version;
	uint64_t out_of_requests;
	uint64_t reads_submitted;
	uint64_t writes_submitted;
	uint64_t reads_completed;
	uint64_t writes_completed;
	uint64_t read_sectors;
	uint64_t written_sectors;
	uint32_t io_errors;
} __attribute__((packed));
