/*
 * Version 2 of the counters in disk_counters_v1.h: the hole behind the version has a name, and the
 * flags of the disk follow the last counter.
 */
#ifndef DISK_COUNTERS_H
#define DISK_COUNTERS_H
#include <stdint.h>

struct disk_counters {
	uint32_t version;
	uint32_t pad0;
	uint64_t out_of_requests;
	uint64_t reads_submitted;
	uint64_t reads_completed;
	uint64_t read_sectors;
	uint64_t read_total_us;
	uint64_t writes_submitted;
	uint64_t writes_completed;
	uint64_t written_sectors;
	uint64_t write_total_us;
	uint64_t io_errors;
	uint64_t flags;
};
#endif
