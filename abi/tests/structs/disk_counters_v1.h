/*
 * Counters of one virtual disk as a user-space disk backend publishes them in a file in /dev/shm:
 * the shape of such files in XenServer's toolstack, written for tests in words of our own. Version
 * 1 has no padding word after its 32-bit version, so the first counter is where the compiler puts
 * it.
 */
#ifndef DISK_COUNTERS_H
#define DISK_COUNTERS_H
#include <stdint.h>

struct disk_counters {
	uint32_t version;
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
};
#endif
