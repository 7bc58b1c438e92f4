/* Prints every atomic operation that write.h takes, with its order, where it goes and the value: what
 * layout/tests/c_steps.txt holds and layout/tests/loom_c.rs runs next to readers. write.h is compiled as it
 * stands; the builtins are renamed to functions that print. */
#include <stdio.h>

#include "r5.h"

#include "region.h"

static const char *place(const void *at);

/* Of the many stores that make a region nothing is seen before the magic: they are not printed. */
static struct domstat_vcpu *vcpu;

static const char *order(int memory_order)
{
    return memory_order == __ATOMIC_RELAXED ? "relaxed"
           : memory_order == __ATOMIC_RELEASE ? "release"
                                              : "other";
}

static void step(const char *what, const void *at, unsigned long long value, int memory_order)
{
    if (vcpu)
        printf("%s %s %llu %s\n", what, place(at), value, order(memory_order));
}

/* A macro is not expanded inside of itself: the builtin is what follows the comma. */
#define __atomic_store_n(at, value, order) \
    (step("store", at, value, order), __atomic_store_n(at, value, order))
#define __atomic_fetch_or(at, value, order) \
    (step("or", at, value, order), __atomic_fetch_or(at, value, order))
#define __atomic_fetch_and(at, value, order) \
    (step("and", at, value, order), __atomic_fetch_and(at, value, order))
#define __atomic_fetch_add(at, value, order) \
    (step("add", at, value, order), __atomic_fetch_add(at, value, order))
#define __atomic_thread_fence(order) \
    (step("fence", NULL, 0, order), __atomic_thread_fence(order))

#include "write.h"

static uint64_t map[1024], other_map[1024];

/* Whose distribution is recorded, in a region of its own. */
static struct domstat_vcpu_hist_record *hist;

static const char *place(const void *at)
{
    static const struct {
        const char *name;
        size_t offset;
    } names[] = {
        {"active", offsetof(struct domstat_vcpu, header.stats_active)},
        {"generation", offsetof(struct domstat_vcpu, header.generation)},
        {"first.seq", offsetof(struct domstat_vcpu, runstate)},
        {"first.updated", offsetof(struct domstat_vcpu, runstate.updated_ns)},
        {"first.state", offsetof(struct domstat_vcpu, runstate.state)},
        {"first.entry", offsetof(struct domstat_vcpu, runstate.state_entry_ns)},
        {"first.running", offsetof(struct domstat_vcpu, runstate.running_ns)},
        {"first.runnable", offsetof(struct domstat_vcpu, runstate.runnable_ns)},
        {"first.blocked", offsetof(struct domstat_vcpu, runstate.blocked_ns)},
        {"first.offline", offsetof(struct domstat_vcpu, runstate.offline_ns)},
        {"second.seq", offsetof(struct domstat_vcpu, runstate_twin)},
        {"second.updated", offsetof(struct domstat_vcpu, runstate_twin.updated_ns)},
        {"second.state", offsetof(struct domstat_vcpu, runstate_twin.state)},
        {"second.entry", offsetof(struct domstat_vcpu, runstate_twin.state_entry_ns)},
        {"second.running", offsetof(struct domstat_vcpu, runstate_twin.running_ns)},
        {"second.runnable", offsetof(struct domstat_vcpu, runstate_twin.runnable_ns)},
        {"second.blocked", offsetof(struct domstat_vcpu, runstate_twin.blocked_ns)},
        {"second.offline", offsetof(struct domstat_vcpu, runstate_twin.offline_ns)},
    };
    static const char *const of_hist[] = {"hist.seq", "hist.updated", "hist.sum", "hist.max"};
    if (at == NULL)
        return "-";
    if (hist && at == &hist->header.stats_active)
        return "hist.active";
    for (size_t i = 0; hist && i < 4; i++)
        if ((const char *)at == (const char *)&hist->wait + 8 * i)
            return of_hist[i];
    if (hist && at == &hist->wait.ns[3])
        return "hist.third";
    if (hist && (const char *)at >= (const char *)hist && (const char *)at < (const char *)(hist + 1))
        return "hist.bucket";
    if (at == map)
        return "magic";
    if (at == (const char *)map + 36)
        return "state";
    if (at == (const char *)map + 48)
        return "notify";
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if ((const char *)at == (const char *)vcpu + names[i].offset)
            return names[i].name;
    return "elsewhere";
}

static void write_all(uint64_t n)
{
    const struct domstat_vcpu_runstate value = {0, 0, 0, n, n, n, n, n, n};
    domstat_write_vcpu_runstate(vcpu, &value, n);
}

int main(void)
{
    struct domstat_options options = domstat_options_of("steps");
    struct domstat_plan plan;
    options.no_schema = 1;
    if (domstat_plan_of(&options, &plan) || plan.len > sizeof(map))
        return 1;
    domstat_init(map, &plan, 7);
    vcpu = domstat_vcpu_at(map, &plan, 0);
    printf("# go live\n");
    domstat_go_live(map);
    printf("# activate\n");
    write_all(1);
    printf("# write\n");
    write_all(2);
    printf("# deactivate\n");
    domstat_end_vcpu_runstate(vcpu);
    printf("# activate again\n");
    write_all(3);
    printf("# renew\n");
    domstat_renew(map, &plan, DOMSTAT_KIND_VCPU, 0);
    printf("# write of the next tenant\n");
    write_all(4);
    printf("# end\n");
    domstat_mark_retired(map);
    domstat_bump(map);

    vcpu = NULL;
    options.vcpu_hists = 1;
    if (domstat_plan_of(&options, &plan) || plan.len > sizeof(other_map))
        return 1;
    domstat_init(other_map, &plan, 7);
    vcpu = domstat_vcpu_at(other_map, &plan, 0);
    hist = domstat_vcpu_hist_at(other_map, &plan, 0);
    printf("# record the first value\n");
    domstat_record_vcpu_hist_wait(hist, 5, 1);
    printf("# record a smaller value\n");
    domstat_record_vcpu_hist_wait(hist, 4, 2);
    return 0;
}
