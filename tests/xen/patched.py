"""What a hypervisor with the patches writes, and what it lets others do (dom0/patched.sh)."""

import re

from serial import fields, vcpu, vcpu_list

EPERM, EINVAL = 1, 22
NAMES = ("running", "runnable", "blocked", "offline")


def acquired(log, moment, vcpus):
    """What a program says that knows nothing but the hypercall."""
    text = log.get(moment, "acquire")
    frames = -(-(512 + 128 * vcpus) // 4096)

    def said(pattern):
        match = re.search(pattern, text)
        return tuple(map(int, match.groups())) if match else None

    log.expect(f"{moment}: the size is asked", said(r"size query error (\d+) frames (\d+)") == (0, frames), frames)
    log.expect(f"{moment}: two that are the first get the same frames",
               said(r"two first users error (\d+) (\d+) same frames (\d+) of (\d+)") == (0, 0, frames, frames),
               said(r"two first users error (\d+) (\d+) same frames (\d+) of (\d+)"))
    for what, expected in (("one frame past the end", EINVAL), ("one frame too many", EINVAL),
                           ("another id", EINVAL), ("own domain", EPERM), ("map to read", 0)):
        log.expect(f"{moment}: {what}: {expected}", said(rf"{what} error (\d+)") == (expected,))
    refused = said(r"map to write error (\d+)")
    log.expect(f"{moment}: a writable mapping is refused", refused and refused[0] > 0, refused)


def checked(log, moment):
    last = log.get(moment, "check").strip().split("\n")[-1]
    log.expect(f"{moment}: the checker finds no rule broken", log.codes.get((moment, "check")) == 0
               and re.match("PASS: 2[34] rules passed", last), last)  # I33 asks for 10 s of running time


def times(domain, index):
    runstate = fields(vcpu(domain, index), "runstate")
    return runstate and {name: runstate[f"{name}_ns"] for name in NAMES}


def state(domain, index):
    runstate = fields(vcpu(domain, index), "runstate")
    return runstate and runstate["state"]


def judge(log):
    for vcpus in (3, 29, 61):
        acquired(log, f"acquire-{vcpus}", vcpus)
        checked(log, f"acquire-{vcpus}")
    before, after = (int(log.get("many", moment) or -99) for moment in ("before", "after"))
    log.expect("destroyed domains give their memory back", abs(before - after) <= 1, (before, after))
    log.expect("destroyed domains are gone", "(null)" not in log.get("many", "xl-list"))

    acquired(log, "first", 3)
    first = log.json("first", "json")
    log.expect("a region of revision 1 on Xen's clock", first and first["revision"] == 1
               and first["clock"] == "xen" and first["state"] == "live")
    checked(log, "working")
    cost = log.json("working", "cost")
    if log.expect("the cost was measured", cost):
        log.rows.append(("ns for a vCPU's runstate", cost["read_ns"],
                         {"XEN_DOMCTL_getvcpuinfo": cost["hypercall_ns"]}))
        log.expect("a read costs less than a twentieth of the hypercall", cost["ratio"] >= 20, cost["ratio"])
        for row in cost["vcpus"]:
            index, early, late = row["index"], row["before_ns"], row["after_ns"]
            log.rows.append((f"ns that vCPU {index} ran", f"{early}..{late}",
                             {"XEN_DOMCTL_getvcpuinfo": row["hypercall_ns"]}))
            # What runs is written at each scheduling decision; the hypercall adds what passed since.
            log.expect(f"vCPU {index}: the hypercall says the same", early <= row["hypercall_ns"] + 1_000_000
                       and row["hypercall_ns"] <= late + 100_000_000, row)

    ioctls = [log.get(f"strace-{count}", "ioctls").strip() for count in (1, 50)]
    samples = [log.get(f"strace-{count}", "samples").split()[:1] for count in (1, 50)]
    log.expect("fifty samples were read", samples == [["1"], ["50"]], samples)
    log.expect("no hypercall for a read", ioctls[0] == ioctls[1] and ioctls[0] in ("1", "2"), ioctls)

    paused, still = log.json("paused", "json"), log.json("paused-still", "json")
    ready = log.expect("paused: both were read", paused and still)
    if ready:
        log.expect("paused: nothing runs", all(times(paused, i)["running"] == times(still, i)["running"] for i in range(3)))
        log.expect("paused: a vCPU that wants to run is offline",
                   "offline" in [state(paused, i) for i in (0, 1)], [state(paused, i) for i in range(3)])
        for index, (_, seconds) in vcpu_list(log.get("paused", "vcpu-list")).items():
            log.within(f"paused: seconds that vCPU {index} ran", round(times(paused, index)["running"] / 1e9, 1),
                       0.11, **{"xl vcpu-list": seconds})
    checked(log, "paused")
    checked(log, "hotplug")
    three, one = log.json("three", "json"), log.json("one", "json")
    if log.expect("vcpu-set: both were read", three and one):
        log.expect("vcpu-set 3: vCPU 2 is online", state(first, 2) == "offline" and state(three, 2) != "offline")
        log.expect("vcpu-set 1: two are offline", [state(one, i) for i in (1, 2)] == ["offline"] * 2)
        log.expect("vcpu-set: the same slots and times go on", all(
            times(three, i)[name] <= times(one, i)[name] for i in range(3) for name in NAMES))

    watch = log.json("destroyed", "watch")
    log.expect("destroyed: who watches sees the end", watch and watch["state"] == "retired"
               and "@watch-ended 0" in log.text)
    log.expect("destroyed: the checker finds no rule broken", "@check-ended 0" in log.text,
               log.get("destroyed", "check").strip().split("\n")[-1])
    log.expect("destroyed: it is gone when nobody maps it", "(null)" not in log.get("destroyed", "list-after")
               and "web1" not in log.get("destroyed", "list-after"))
    log.expect("destroyed: there is nothing to be mapped", log.codes.get(("destroyed", "show")) == 3,
               log.get("destroyed", "show"))
