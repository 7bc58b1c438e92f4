/* Prints block device 0's statistics as a caller compiled with a structure of SIZE bytes gets them:
 * block_stats FILE SIZE. The bytes past the structure stay as they were. */
#define _GNU_SOURCE
#include "peer.h"

#include "block_stats.h"

int main(int argc, char **argv)
{
    int64_t stats[16];
    struct stat st;
    if (argc != 3)
        return 2;
    int fd = open(argv[1], O_RDONLY);
    if (fd < 0 || fstat(fd, &st) != 0)
        fail(argv[1]);
    const char *region = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (region == MAP_FAILED)
        fail("mmap");
    const struct domstat_dom_header *h = (const struct domstat_dom_header *)region;
    size_t offs = load32(&h->blk_offs), size = load32(&h->blk_size);
    if (load32(&h->nr_blks) == 0 || offs % 8 || offs + size > (size_t)st.st_size)
        return 1;
    memset(stats, 0x55, sizeof stats);
    int error = domstat_read_block_stats(region + offs, size, stats, strtoul(argv[2], NULL, 10));
    if (error != 0) {
        puts(strerror(error));
        return 0;
    }
    for (size_t i = 0; i < 16 && stats[i] != 0x5555555555555555; i++)
        printf("%lld ", (long long)stats[i]);
    puts("");
    return 0;
}
