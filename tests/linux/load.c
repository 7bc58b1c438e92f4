/*
 * Load on a block device, timed by the guest: reads of 4 KiB past the page cache by a few threads.
 *
 *   load DEVICE THREADS READS    each thread reads READS times
 *
 * Prints how long all took, the sum of the times of the single reads, and how many took how long: the
 * count of each power of two of nanoseconds, by bit length.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, MAX_THREADS = 64, BUCKETS = 40 };

static const char *device;
static unsigned reads;
static uint64_t *times[MAX_THREADS];

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void *run(void *of)
{
	uint64_t *mine = of;
	int fd = open(device, O_RDONLY | O_DIRECT);
	void *block = NULL;

	if (fd < 0 || posix_memalign(&block, BLOCK, BLOCK)) {
		perror(device);
		exit(1);
	}
	for (unsigned i = 0; i < reads; i++) {
		uint64_t began = now();

		if (pread(fd, block, BLOCK, (off_t)(i % 1024) * BLOCK) != BLOCK) {
			perror("pread");
			exit(1);
		}
		mine[i] = now() - began;
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

int main(int argc, char **argv)
{
	pthread_t threads[MAX_THREADS];
	unsigned count = argc == 4 ? (unsigned)atoi(argv[2]) : 0;
	uint64_t began, took, sum = 0, buckets[BUCKETS] = { 0 }, *all;
	size_t n;

	if (!count || count > MAX_THREADS)
		return 2;
	device = argv[1];
	reads = (unsigned)atoi(argv[3]);
	n = (size_t)count * reads;
	all = calloc(n, sizeof(*all));
	if (!all)
		return 1;
	began = now();
	for (unsigned i = 0; i < count; i++) {
		times[i] = all + (size_t)i * reads;
		if (pthread_create(&threads[i], NULL, run, times[i]))
			return 1;
	}
	for (unsigned i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	took = now() - began;
	qsort(all, n, sizeof(*all), compare);
	for (size_t i = 0; i < n; i++) {
		unsigned bits = all[i] ? 64 - (unsigned)__builtin_clzll(all[i]) : 0;

		sum += all[i];
		buckets[bits < BUCKETS ? bits : BUCKETS - 1]++;
	}
	printf("@load reads %zu took %llu sum %llu p50 %llu p99 %llu max %llu buckets", n, (unsigned long long)took,
	       (unsigned long long)sum, (unsigned long long)all[n / 2],
	       (unsigned long long)all[n * 99 / 100], (unsigned long long)all[n - 1]);
	for (unsigned i = 0; i < BUCKETS; i++)
		printf(" %llu", (unsigned long long)buckets[i]);
	printf("\n");
	return 0;
}
