/* A guest for a VMM that has a disk at virtio-mmio: it counts what it does and says so.
 *
 * Vcpu 0 halts until its timer (100 Hz) wakes it, and gives the disk a batch of requests. Vcpu 1 computes and
 * writes to a port. A byte at the serial port is a command:
 *
 *     p   pause: when every request has ended, print all counters and ask for nothing more
 *     g   go on
 *     r   reset the disk and set it up again
 *     x   print, write BURST times to a port, print
 *     d   print, read BURST_READS blocks one after the other, print
 *     q   reset the machine
 */
#include <stdint.h>

enum {
    COM = 0x3f8,
    COM_STATUS = COM + 5,
    QUIET_PORT = 0x80,
    PIT_HZ = 1193182,
    TIMER_HZ = 100,
    MMIO_BASE = 0xd0000000,
    MMIO_STRIDE = 0x1000,
    MOST_DEVICES = 16,
    QUEUE_LEN = 16,
    BLOCK = 4096,
    SECTOR = 512,
    NR_BLOCKS = 1024,
    BATCH = 4,
    BURST = 10000,
    BURST_READS = 1000,
};

/* Registers of virtio-mmio, version 2. */
enum {
    MAGIC = 0x000,
    DEVICE = 0x008,
    DRIVER_FEATURES = 0x020,
    DRIVER_FEATURES_SEL = 0x024,
    QUEUE_SEL = 0x030,
    QUEUE_NUM = 0x038,
    QUEUE_READY = 0x044,
    QUEUE_NOTIFY = 0x050,
    STATUS = 0x070,
    QUEUE_DESC = 0x080,
    QUEUE_AVAIL = 0x090,
    QUEUE_USED = 0x0a0,
};

struct desc {
    uint32_t addr, addr_high, len;
    uint16_t flags, next;
};
struct avail {
    uint16_t flags, idx, ring[QUEUE_LEN], event;
};
struct used {
    uint16_t flags, idx;
    struct {
        uint32_t id, len;
    } ring[QUEUE_LEN];
    uint16_t event;
};
struct request {
    uint32_t type, reserved, sector, sector_high;
};
enum { READ = 0, WRITE = 1, FLUSH = 4 };

static struct desc descs[QUEUE_LEN] __attribute__((aligned(16)));
static volatile struct avail avail __attribute__((aligned(4)));
static volatile struct used used __attribute__((aligned(4)));
static struct request requests[BATCH];
static volatile uint8_t statuses[BATCH];
/* Above the first mebibyte: only vCPU 0 gets there. */
static uint8_t *const buffer = (uint8_t *)0x100000;

volatile uint32_t ticks;
static volatile uint32_t paused, computed, outs;
static uint32_t reads, read_bytes, writes, write_bytes, flushes, errors, mmio, resets;
static uint32_t disk, block, in_batch;

static inline void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void halt(void)
{
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

static void store(uint32_t at, uint32_t value)
{
    mmio++;
    *(volatile uint32_t *)at = value;
}

static uint32_t load(uint32_t at)
{
    mmio++;
    return *(volatile uint32_t *)at;
}

static void print(const char *text)
{
    for (; *text; text++)
        outb(COM, *text);
}

static void print_number(const char *name, uint32_t value)
{
    char digits[11], *at = digits + sizeof(digits) - 1;
    for (*at = 0; value >= 10 || at == digits + sizeof(digits) - 1; value /= 10)
        *--at = '0' + value % 10;
    if (value)
        *--at = '0' + value;
    print(" ");
    print(name);
    print(" ");
    print(at);
}

static void print_counters(const char *why)
{
    print(why);
    print_number("rd_req", reads);
    print_number("rd_bytes", read_bytes);
    print_number("wr_req", writes);
    print_number("wr_bytes", write_bytes);
    print_number("flush_req", flushes);
    print_number("errs", errors);
    print_number("mmio", mmio);
    print_number("outs", outs);
    print_number("resets", resets);
    print("\n");
}

static void set_up_disk(void)
{
    store(disk + STATUS, 0);
    store(disk + STATUS, 1);
    store(disk + STATUS, 1 | 2);
    store(disk + DRIVER_FEATURES_SEL, 1);
    store(disk + DRIVER_FEATURES, 1); /* VIRTIO_F_VERSION_1 */
    store(disk + DRIVER_FEATURES_SEL, 0);
    store(disk + DRIVER_FEATURES, 0);
    store(disk + STATUS, 1 | 2 | 8);
    avail.idx = used.idx = 0;
    store(disk + QUEUE_SEL, 0);
    store(disk + QUEUE_NUM, QUEUE_LEN);
    store(disk + QUEUE_DESC, (uint32_t)descs);
    store(disk + QUEUE_DESC + 4, 0);
    store(disk + QUEUE_AVAIL, (uint32_t)&avail);
    store(disk + QUEUE_AVAIL + 4, 0);
    store(disk + QUEUE_USED, (uint32_t)&used);
    store(disk + QUEUE_USED + 4, 0);
    store(disk + QUEUE_READY, 1);
    store(disk + STATUS, 1 | 2 | 8 | 4);
}

static uint32_t find_disk(void)
{
    for (uint32_t i = 0; i < MOST_DEVICES; i++) {
        const uint32_t at = MMIO_BASE + i * MMIO_STRIDE;
        if (load(at + MAGIC) == 0x74726976 && load(at + DEVICE) == 2)
            return at;
    }
    return 0;
}

static void add(uint32_t type, uint32_t len)
{
    const uint16_t first = 3 * in_batch;
    struct request *request = &requests[in_batch];
    request->type = type;
    request->sector = block * (BLOCK / SECTOR);
    block = (block + 1) % NR_BLOCKS;
    statuses[in_batch] = 0xff;
    descs[first] = (struct desc){(uint32_t)request, 0, sizeof(*request), 1, first + (len ? 1 : 2)};
    descs[first + 1] = (struct desc){(uint32_t)buffer + in_batch * BLOCK, 0, len, type == READ ? 3 : 1, first + 2};
    descs[first + 2] = (struct desc){(uint32_t)&statuses[in_batch], 0, 1, 2, 0};
    avail.ring[(uint16_t)(avail.idx + in_batch) % QUEUE_LEN] = first;
    in_batch++;
}

static void submit(void)
{
    __asm__ volatile("" : : : "memory");
    avail.idx += in_batch;
    /* KVM signals an eventfd: no exit to count. */
    *(volatile uint32_t *)(disk + QUEUE_NOTIFY) = 0;
}

/* Counts a batch whose requests have all ended; whether there is one in flight after that. */
static int is_busy(void)
{
    if (used.idx != avail.idx)
        return 1;
    for (uint32_t i = 0; i < in_batch; i++) {
        const uint32_t len = descs[3 * i + 1].len;
        if (statuses[i] != 0) {
            errors++;
        } else if (requests[i].type == READ) {
            reads++;
            read_bytes += len;
        } else if (requests[i].type == WRITE) {
            writes++;
            write_bytes += len;
        } else {
            flushes++;
        }
    }
    in_batch = 0;
    return 0;
}

static void burst_of_reads(void)
{
    print_counters("reading");
    for (uint32_t i = 0; i < BURST_READS; i++) {
        add(READ, BLOCK);
        submit();
        while (is_busy())
            ;
    }
    print_counters("read");
}

static void burst_of_exits(void)
{
    print_counters("writing");
    for (uint32_t i = 0; i < BURST; i++)
        outb(QUIET_PORT, 0);
    print_counters("written");
}

/* Has the interrupt controller deliver the timer's interrupt, and nothing else. */
static void set_up_timer(void)
{
    outb(0x20, 0x11);
    outb(0x21, TIMER_VECTOR);
    outb(0x21, 4);
    outb(0x21, 1);
    outb(0x21, 0xfe);
    outb(0x43, 0x34);
    outb(0x40, (PIT_HZ / TIMER_HZ) & 0xff);
    outb(0x40, (PIT_HZ / TIMER_HZ) >> 8);
}

/* INIT and start-up for every other vCPU, by the local interrupt controller, which the kernel emulates. */
static void start_second(void)
{
    uint32_t at = 0xfee00300;
    __asm__("" : "+r"(at)); /* or the assembler takes 16 bits of it */
    volatile uint32_t *const command = (volatile uint32_t *)at;
    *command = 0xc4500;
    halt();
    halt();
    *command = 0xc4600 | 8;
    halt();
    *command = 0xc4600 | 8;
}

void main_first(void)
{
    char wanted = 0;
    set_up_timer();
    disk = find_disk();
    if (!disk)
        print("no disk\n");
    else
        set_up_disk();
    start_second();
    print("up\n");
    for (;;) {
        halt();
        if (inb(COM_STATUS) & 1)
            wanted = inb(COM);
        if (!disk || is_busy())
            continue;
        switch (wanted) {
        case 'p':
            paused = 1;
            /* What vCPU 1 has begun ends within a tick. */
            halt();
            halt();
            print_counters("paused");
            break;
        case 'g':
            paused = 0;
            break;
        case 'r':
            resets++;
            set_up_disk();
            break;
        case 'x':
            burst_of_exits();
            break;
        case 'd':
            burst_of_reads();
            break;
        case 'q':
            print_counters("resetting");
            outb(0x64, 0xfe);
            break;
        }
        wanted = 0;
        if (paused)
            continue;
        add(READ, BLOCK);
        add(READ, BLOCK);
        add(WRITE, SECTOR);
        if (ticks % 8 == 0)
            add(FLUSH, 0);
        submit();
    }
}

void main_second(void)
{
    for (;;) {
        for (uint32_t i = 0; i < 1000; i++)
            computed++;
        if (!paused) {
            outb(QUIET_PORT, 0);
            outs++;
        }
    }
}
