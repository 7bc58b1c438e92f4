/* Asks a hypervisor for a domain's statistics frames as any other tool would: by the hypercall and
 * by privcmd alone. Prints one line for each fact.
 *   acquire DOMID NR_VCPUS */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MEMORY_OP 12
#define ACQUIRE_RESOURCE 28
#define RESOURCE_DOMSTAT 3
#define MOST 512

struct hypercall {
    uint64_t op, arg[5];
};
struct resource {
    uint16_t domid, type;
    uint32_t id, nr_frames, pad;
    uint64_t frame, frame_list;
};
struct mmap_resource {
    uint16_t dom;
    uint32_t type, id, idx;
    uint64_t num, addr;
};
#define IOCTL_HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct hypercall))
#define IOCTL_MMAP_RESOURCE _IOC(_IOC_NONE, 'P', 7, sizeof(struct mmap_resource))

/* What a hypercall reads and writes stays where it is. */
struct buffer {
    struct resource resource;
    uint64_t list[MOST];
};

static struct buffer *buffer(void)
{
    void *at = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED || mlock(at, 1 << 16))
        exit(2);
    memset(at, 0, 1 << 16);
    return at;
}

/* 0 or an errno. */
static int acquire(int fd, struct buffer *b, uint16_t domid, uint32_t id, uint64_t frame, uint32_t nr,
                   int list)
{
    struct hypercall call = { MEMORY_OP, { ACQUIRE_RESOURCE, (uintptr_t)&b->resource } };

    b->resource = (struct resource){ domid, RESOURCE_DOMSTAT, id, nr, 0, frame,
                                     list ? (uintptr_t)b->list : 0 };
    return ioctl(fd, IOCTL_HYPERCALL, &call) < 0 ? errno : 0;
}

static int privcmd(void)
{
    int fd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        exit(2);
    return fd;
}

/* Maps one frame with this protection: 0 or an errno. */
static int map(int fd, uint16_t domid, int prot)
{
    void *at = mmap(NULL, 4096, prot, MAP_SHARED, fd, 0);
    struct mmap_resource request = { domid, RESOURCE_DOMSTAT, 0, 0, 1, (uintptr_t)at };

    if (at == MAP_FAILED)
        return errno;
    return ioctl(fd, IOCTL_MMAP_RESOURCE, &request) < 0 ? errno : 0;
}

int main(int argc, char **argv)
{
    uint16_t domid = argc > 2 ? atoi(argv[1]) : 0;
    unsigned int vcpus = argc > 2 ? atoi(argv[2]) : 0, want = (512 + vcpus * 128 + 4095) / 4096;
    struct {
        volatile int ready;
        volatile int error[2];
        volatile uint64_t list[2][MOST];
    } *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned int size, i;
    int fd = privcmd(), error;
    struct buffer *b = buffer();

    error = acquire(fd, b, domid, 0, 0, 0, 0);
    size = b->resource.nr_frames;
    printf("acquire: size query error %d frames %u expected %u\n", error, size, want);
    if (error || size > MOST)
        return 1;

    /* Two processes are the first to ask, at once. */
    for (i = 0; i < 2; i++)
        if (fork() == 0) {
            int own = privcmd();
            struct buffer *mine = buffer();

            __sync_fetch_and_add(&shared->ready, 1);
            while (shared->ready < 2)
                ;
            shared->error[i] = acquire(own, mine, domid, 0, 0, size, 1);
            for (unsigned int f = 0; f < size; f++)
                shared->list[i][f] = mine->list[f];
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
    for (i = 0; i < size && shared->list[0][i] && shared->list[0][i] == shared->list[1][i]; i++)
        ;
    printf("acquire: two first users error %d %d same frames %u of %u\n", shared->error[0],
           shared->error[1], i, size);

    printf("acquire: one frame past the end error %d\n", acquire(fd, b, domid, 0, size, 1, 1));
    printf("acquire: one frame too many error %d\n", acquire(fd, b, domid, 0, 0, size + 1, 1));
    printf("acquire: another id error %d\n", acquire(fd, b, domid, 1, 0, 1, 1));
    printf("acquire: own domain error %d\n", acquire(fd, b, 0, 0, 0, 1, 1));
    printf("acquire: map to read error %d\n", map(fd, domid, PROT_READ));
    printf("acquire: map to write error %d\n", map(fd, domid, PROT_READ | PROT_WRITE));
    return 0;
}
