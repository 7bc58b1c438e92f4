/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Writes the two files that tapdisk keeps of a disk, as if requests had come.
 *   tapdisk DOMID DEVID READS WRITES    each of eight sectors of 512 bytes and 250 us */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef ROOT
#define ROOT "/dev/shm"
#endif

struct metrics {
    uint32_t version, unused;
    uint64_t oo_reqs;
    uint64_t reads_submitted, reads_completed, read_sectors, read_usecs;
    uint64_t writes_submitted, writes_completed, write_sectors, write_usecs;
    uint64_t errors, flags;
};
_Static_assert(sizeof(struct metrics) == 96, "layout");

struct direction {
    uint64_t requests;
    int64_t count;
    uint64_t sectors;
    int64_t usecs, max_usecs;
};
struct blkback {
    uint64_t discards, flushes, oo_reqs;
    struct direction read, write;
    uint64_t flags;
};
_Static_assert(sizeof(struct blkback) == 112, "layout");

static void *page(const char *directory, const char *name)
{
    char path[512];
    mkdir(ROOT, 01777);
    mkdir(directory, 0700);
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    void *page = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, 4096) == 0)
        page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) {
        perror(path);
        exit(1);
    }
    return page;
}

static void serve(struct direction *direction, uint64_t requests)
{
    for (uint64_t i = 0; i < requests; i++) {
        direction->requests++;
        direction->sectors += 8;
        direction->count++;
        direction->usecs += 250;
        direction->max_usecs = 250;
    }
}

int main(int argc, char **argv)
{
    char directory[256], name[64];
    if (argc != 5)
        return 2;
    snprintf(directory, sizeof(directory), ROOT "/td3-%d", getpid());
    snprintf(name, sizeof(name), "vbd-%s-%s", argv[1], argv[2]);
    struct metrics *metrics = page(directory, name);
    snprintf(directory, sizeof(directory), ROOT "/vbd3-%s-%s", argv[1], argv[2]);
    struct blkback *blkback = page(directory, "statistics");
    serve(&blkback->read, strtoull(argv[3], NULL, 10));
    serve(&blkback->write, strtoull(argv[4], NULL, 10));
    metrics->version = 1;
    metrics->reads_submitted = blkback->read.requests + 1; /* one is in flight */
    metrics->reads_completed = blkback->read.requests;
    metrics->read_sectors = blkback->read.sectors;
    metrics->read_usecs = blkback->read.usecs;
    metrics->writes_submitted = metrics->writes_completed = blkback->write.requests;
    metrics->write_sectors = blkback->write.sectors;
    metrics->write_usecs = blkback->write.usecs;
    metrics->errors = 3;
    return 0;
}
