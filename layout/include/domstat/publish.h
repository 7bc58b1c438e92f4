/* Publishing a region on Linux from C: the memory, and what lets consumers find it. Include it after a
 * revision's header; define _GNU_SOURCE before any header.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 *     domstat_create() ... domstat_publish(), domstat_announce() ... domstat_withdraw(), domstat_retire()
 *
 * Functions return NULL, or why not in words; then errno says what the system said, or is 0. */
#ifndef DOMSTAT_PUBLISH_H
#define DOMSTAT_PUBLISH_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "write.h"

#ifndef MFD_ALLOW_SEALING
#error "define _GNU_SOURCE before the first header"
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* A region and its descriptor. */
struct domstat_region {
    void *map;
    struct domstat_plan plan;
    int fd;
};

/* An entry in the directory where consumers look: its path, and the link that it is. */
struct domstat_entry {
    char path[512], target[48];
};

/* CLOCK_MONOTONIC, in nanoseconds: what every `now` is of a region with that clock. */
static inline uint64_t domstat_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Makes a region in memory of its own, which nobody sees yet. Its writers get their records from
 * domstat_vcpu_at(region->map, &region->plan, index) and its like. */
static inline const char *domstat_create(const struct domstat_options *options,
                                         struct domstat_region *region)
{
    char name[9 + DOMSTAT_MAX_NAME_LEN];
    uint64_t incarnation;
    struct domstat_options o = *options;
    const char *why;
    int error;
    errno = 0;
    o.page_size = (uint32_t)sysconf(_SC_PAGESIZE);
    if ((why = domstat_plan_of(&o, &region->plan)) != NULL)
        return why;
    if (getrandom(&incarnation, sizeof(incarnation), 0) != (ssize_t)sizeof(incarnation))
        return "no random number for the incarnation";
    /* By this name others know that a descriptor is a region's. */
    snprintf(name, sizeof(name), "domstat:%.*s", (int)domstat_name_len(o.name), o.name);
    region->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (region->fd < 0)
        return "cannot create a memfd";
    /* Its memory now, so that no later store finds none. */
    if (ftruncate(region->fd, (off_t)region->plan.len) != 0 ||
        fallocate(region->fd, 0, 0, (off_t)region->plan.len) != 0)
        goto fail;
    region->map = mmap(NULL, region->plan.len, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd, 0);
    if (region->map == MAP_FAILED)
        goto fail;
    domstat_init(region->map, &region->plan, incarnation);
    return NULL;
fail:
    error = errno;
    close(region->fd);
    errno = error;
    return "cannot allocate the region's memory";
}

/* Makes the region visible to whoever opens its descriptor, and seals it: from here on nobody can make
 * it longer or shorter, which would kill a reader, and nobody but the mappings that there are can
 * write it. */
static inline const char *domstat_publish(struct domstat_region *region)
{
    errno = 0;
    if (fcntl(region->fd, F_ADD_SEALS,
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
        return "cannot seal the memfd";
    domstat_go_live(region->map);
    return NULL;
}

/* Counts a discrete event and wakes who waits for one: a system call, so not for every update. */
static inline void domstat_notify(struct domstat_region *region)
{
    syscall(SYS_futex, domstat_bump(region->map), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Reports that the domain has ended; async-signal-safe, for programs that leave by _exit(). Mappings
 * stay: a writer that has not stopped writes to memory that consumers know to be old. */
static inline void domstat_retire(struct domstat_region *region)
{
    domstat_mark_retired(region->map);
    domstat_notify(region);
}

/* ---- The directory --------------------------------------------------------------------------- */

/* Whether a domain may be published under this name: UTF-8 of 1 to 127 bytes without '/' and control
 * characters, not starting with '.'. */
static inline int domstat_is_name(const char *name)
{
    const size_t len = strlen(name);
    if (len < 1 || len > DOMSTAT_MAX_NAME_LEN || name[0] == '.')
        return 0;
    for (const unsigned char *at = (const unsigned char *)name; *at != '\0';) {
        const unsigned char first = *at++;
        const int more = first < 0x80 ? 0 : first < 0xc2 ? -1 : first < 0xe0 ? 1 : first < 0xf0 ? 2
                         : first < 0xf5 ? 3 : -1;
        if (first < 0x20 || first == 0x7f || first == '/' || more < 0)
            return 0;
        /* C1 controls, overlong forms, surrogates, and what is past the last character. */
        if ((first == 0xc2 && *at < 0xa0) || (first == 0xe0 && *at < 0xa0) ||
            (first == 0xed && *at > 0x9f) || (first == 0xf0 && *at < 0x90) ||
            (first == 0xf4 && *at > 0x8f))
            return 0;
        for (int i = 0; i < more; i++)
            if ((*at++ & 0xc0) != 0x80)
                return 0;
    }
    return 1;
}

/* Reads a link; its length, or -1 if it is none or does not fit. */
static inline int domstat_read_link(const char *path, char *to, size_t size)
{
    const ssize_t len = readlink(path, to, size);
    if (len < 0 || (size_t)len >= size)
        return -1;
    to[len] = '\0';
    return (int)len;
}

/* Whether what has the name is a region that somebody may still write. */
static inline int domstat_is_taken(const char *path)
{
    char target[64], file[160];
    struct stat status;
    if (lstat(path, &status) == 0 && !S_ISLNK(status.st_mode))
        return 1;
    if (domstat_read_link(path, target, sizeof(target)) < 0)
        return 0;
    /* Of another user's process nothing can be read. */
    if (domstat_read_link(target, file, sizeof(file)) < 0)
        return errno == EACCES;
    /* "domstat-" in builds before revision 5. */
    return strncmp(file, "/memfd:domstat:", 15) == 0 || strncmp(file, "/memfd:domstat-", 15) == 0;
}

/* Takes the lock that producers have while they look at a name and then take it: a descriptor, -1 if
 * this user cannot lock the directory, which is not an error, or -2 if another process keeps it. */
static inline int domstat_lock_dir(const char *path)
{
    const struct timespec pause = {0, 1000000};
    struct stat file, now;
    for (int i = 0; i < 5000; i++) {
        int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
        if (fd < 0)
            return -1;
        if (fstat(fd, &file) != 0 || (file.st_uid != 0 && file.st_uid != geteuid())) {
            close(fd);
            return -1;
        }
        /* Its last owner may have removed the file. */
        if (flock(fd, LOCK_EX | LOCK_NB) == 0 && lstat(path, &now) == 0 &&
            file.st_dev == now.st_dev && file.st_ino == now.st_ino)
            return fd;
        close(fd);
        nanosleep(&pause, NULL);
    }
    return -2;
}

/* Makes the link, or replaces one that leads nowhere any more. */
static inline const char *domstat_link(const struct domstat_entry *entry)
{
    char was[64];
    for (int i = 0; i < 10; i++) {
        if (symlink(entry->target, entry->path) == 0)
            return NULL;
        if (errno != EEXIST)
            return "cannot make the entry";
        /* A link like ours is one of a producer that had our process id, as in a container that was
         * started again. */
        if ((domstat_read_link(entry->path, was, sizeof(was)) < 0 ||
             strcmp(was, entry->target) != 0) && domstat_is_taken(entry->path)) {
            errno = 0;
            return "another producer publishes a domain of this name";
        }
        if (unlink(entry->path) != 0 && errno != ENOENT)
            return "cannot remove the entry of a producer that has exited";
    }
    return "other producers want the same name";
}

/* Makes the region known as `name` in the directory `dir`, which exists: DIR/NAME.domstat is a link to
 * this process's descriptor, so it dangles as soon as the process has exited, however it ended.
 *
 * Refused where it would mislead: where /proc is missing or is that of other processes, as in a chroot
 * or in a process id namespace without its own, the link would name another process's descriptor. In a
 * namespace with a /proc of its own it leads consumers of the same namespace to the region, and nobody
 * outside: do not share its directory with the host. */
static inline const char *domstat_announce(const struct domstat_region *region, const char *dir,
                                           const char *name, struct domstat_entry *entry)
{
    char lock[sizeof(entry->path)];
    struct stat ours, linked;
    errno = 0;
    if (!domstat_is_name(name))
        return "a name has 1 to 127 bytes without '/' and control characters, not starting with '.'";
    const int lens[] = {
        snprintf(entry->path, sizeof(entry->path), "%s/%s.domstat", dir, name),
        snprintf(lock, sizeof(lock), "%s/.lock", dir),
    };
    if (lens[0] < 0 || lens[0] >= (int)sizeof(entry->path) || lens[1] >= (int)sizeof(lock))
        return "the directory's path is too long";
    snprintf(entry->target, sizeof(entry->target), "/proc/%ld/fd/%d", (long)getpid(), region->fd);
    if (fstat(region->fd, &ours) != 0)
        return "the region has no descriptor";
    if (stat(entry->target, &linked) != 0 || ours.st_dev != linked.st_dev ||
        ours.st_ino != linked.st_ino) {
        errno = 0;
        return "/proc is missing or is that of other processes: an entry would mislead";
    }
    const int fd = domstat_lock_dir(lock);
    if (fd == -2)
        return "another process keeps the lock of the directory";
    const char *why = domstat_link(entry);
    const int error = errno;
    if (fd >= 0) {
        unlink(lock);
        close(fd);
    }
    errno = error;
    return why;
}

/* Removes the entry if it is still ours: a successor may have the name. */
static inline void domstat_withdraw(const struct domstat_entry *entry)
{
    char target[64];
    if (domstat_read_link(entry->path, target, sizeof(target)) >= 0 &&
        strcmp(target, entry->target) == 0)
        unlink(entry->path);
}

#endif
