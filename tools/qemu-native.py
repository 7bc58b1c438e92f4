#!/usr/bin/env python3
"""Judges a QEMU that publishes itself (patches/qemu): every number next to QMP's of the same moment, how old
numbers get while no monitor answers, and what is seen when it is killed.

    tools/qemu-native.py boot    the tests' boot ROM, which writes an IDE disk; under TCG, and under KVM if that runs

QEMU is the patched one, DOMSTAT the command to judge. Exits with 1 if the numbers differ by more than is promised.
"""
import ctypes
import os
import select
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
from vms import DIR, DOMSTAT, ENV, Lines, Qmp, disk, domstat, main, rom, show, until, vm

WRONG = []
# Oldest that a number of a thread or of a disk under load may get.
OLDEST_MS = 100
# Readings of an age.
SAMPLES = 20


def judge(what, holds):
    print(f"{'ok   ' if holds else 'WRONG'} {what}")
    if not holds:
        WRONG.append(what)


def object_of(name):
    (DIR / "run").mkdir(exist_ok=True)
    return ["-object", f"domstat,id=stats,name={name},path={DIR}/run"]


def fields(groups, name):
    return groups[name].get("fields") or {}


def compare(name, own, pid):
    """Every number that QMP has, too, of the stopped VM."""
    own("stop")
    # Requests end, and the sampler looks once more.
    time.sleep(0.5)
    sample = show(name)
    rows = []

    def row(field, ours, theirs, slack=0):
        rows.append((field, ours, theirs, ours == theirs or (None not in (ours, theirs) and abs(ours - theirs) <= slack)))

    for entry, blk in zip(own("query-blockstats"), sample["blks"]):
        s, groups, label = entry["stats"], blk["groups"], fields(blk["groups"], "identity")["name"]
        kinds = (("rd", "rd"), ("wr", "wr"), ("flush", "flush"), ("dis", "unmap"))
        pairs = [
            ("io", "rd_req", s["rd_operations"]), ("io", "rd_bytes", s["rd_bytes"]),
            ("io", "wr_req", s["wr_operations"]), ("io", "wr_bytes", s["wr_bytes"]),
            ("io", "errs", sum(s[f"failed_{theirs}_operations"] for _, theirs in kinds)),
            ("io", "in_flight", 0),
            ("io_times", "rd_total_ns", s["rd_total_time_ns"]), ("io_times", "wr_total_ns", s["wr_total_time_ns"]),
            ("io_times", "flush_req", s["flush_operations"]), ("io_times", "flush_total_ns", s["flush_total_time_ns"]),
            ("discards", "dis_req", s["unmap_operations"]), ("discards", "dis_bytes", s["unmap_bytes"]),
            ("discards", "dis_total_ns", s["unmap_total_time_ns"]), ("discards", "dis_merged", s["unmap_merged"]),
        ]
        pairs += [("failures", f"{ours}_failed", s[f"failed_{theirs}_operations"]) for ours, theirs in kinds]
        pairs += [("failures", f"{ours}_invalid", s[f"invalid_{theirs}_operations"]) for ours, theirs in kinds]
        for group, field, value in pairs:
            row(f"{label} {group}.{field}", fields(groups, group).get(field), value)
        queue = fields(groups, "queue")
        row(f"{label} queue.submitted", queue["submitted"], queue["completed"])
        done = sum(s[f"{kind}_operations"] for kind in ("rd", "wr", "flush", "unmap"))
        row(f"{label} queue.completed", queue["completed"], done)
        hist = next(h["groups"] for h in sample["blk_hists"] if h["index"] == blk["index"])
        for ours, theirs in (("rd", "rd"), ("wr", "wr"), ("fl", "flush")):
            latency = fields(hist, f"{ours}_latency")
            # One that is inactive has no value yet.
            row(f"{label} {ours}_latency, number", sum(latency.get("ns", [0])), s[f"{theirs}_operations"])
            row(f"{label} {ours}_latency.sum_ns", latency.get("sum_ns", 0), s[f"{theirs}_total_time_ns"])
    tids = {cpu["cpu-index"]: cpu["thread-id"] for cpu in own("query-cpus-fast")}
    row("vCPUs", [v["index"] for v in sample["vcpus"] if v["groups"]["sched"]["status"] == "active"], sorted(tids))
    for index, tid in tids.items():
        ran, waited, slices = map(int, Path(f"/proc/{pid}/task/{tid}/schedstat").read_text().split())
        sched = fields(sample["vcpus"][index]["groups"], "sched")
        row(f"vcpu {index} sched.time_ns", sched["time_ns"], ran, 5_000_000)
        row(f"vcpu {index} sched.delay_ns", sched["delay_ns"], waited, 5_000_000)
        row(f"vcpu {index} sched.timeslices", sched["timeslices"], slices, 20)
        row(f"vcpu {index} runstate.state", fields(sample["vcpus"][index]["groups"], "runstate")["state"], "offline")
    threads = fields(sample["groups"], "threads")
    io = [entry["thread-id"] for entry in own("query-iothreads")]
    ran = sum(int(Path(f"/proc/{pid}/task/{tid}/schedstat").read_text().split()[0]) for tid in io)
    row("threads.iothread_threads", threads["iothread_threads"], len(io))
    row("threads.iothread_ns", threads["iothread_ns"], ran, 5_000_000)
    row("threads.vcpu_threads", threads["vcpu_threads"], len(tids))
    memory = own("query-memory-size-summary")
    row("memory.maximum_bytes", fields(sample["groups"], "memory")["maximum_bytes"], memory["base-memory"])
    row("status.state", fields(sample["groups"], "status")["state"], own("query-status")["status"])
    for field, ours, theirs, holds in rows:
        judge(f"{name}: {field} {ours}, QEMU's {theirs}", holds)
    own("cont")


def oldest(name, pick):
    """The oldest age in ms of the groups that `pick` chooses, over a while."""
    worst = 0
    for _ in range(SAMPLES):
        worst = max([worst, *(group["age_ns"] for group in pick(show(name)))])
        time.sleep(0.05)
    return worst / 1e6


def of_threads(sample):
    for vcpu in sample["vcpus"]:
        yield vcpu["groups"]["runstate"]
        yield vcpu["groups"]["sched"]
    yield sample["groups"]["cpu"]
    yield sample["groups"]["threads"]


def flood(path):
    """A client that asks and never reads: QEMU does not go on with this monitor. It is held by what is returned."""
    client = Lines.connect(path)
    client.setblocking(False)
    question = b'{"execute": "qmp_capabilities"}' + b'{"execute": "query-qmp-schema"}' * 100
    try:
        while True:
            client.sendall(question)
    except BlockingIOError:
        return client


class Held:
    """The main thread of a process, stopped by itself: neither a monitor nor a timer runs, all other threads do."""

    SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000

    def __init__(self, pid):
        self.pid = pid

    def ask(self, request):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        if libc.ptrace(request, self.pid, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def __enter__(self):
        self.ask(self.SEIZE)
        self.ask(self.INTERRUPT)
        os.waitpid(self.pid, self.WALL)

    def __exit__(self, *_):
        self.ask(self.DETACH)


def live(name, own, machine):
    """How old numbers get while nobody reads a monitor, and while the main loop stands still."""
    client = flood(DIR / f"qmp/{name}.qmp")
    age = oldest(name, of_threads)
    judge(f"{name}: nobody reads the monitor: threads at most {age:.1f} ms old", age < OLDEST_MS)
    client.close()
    with Held(machine.pid):
        own.say({"execute": "query-status"})
        age = oldest(name, of_threads)
        answered = select.select([own.socket], [], [], 1)[0]
        judge(f"{name}: the main loop stands still: QMP does not answer, threads at most {age:.1f} ms old",
              not answered and age < OLDEST_MS)
    while "return" not in own.take():
        pass
    judge(f"{name}: QMP answers again", own("query-status")["running"])


def watch(name):
    checked = subprocess.run([DOMSTAT, "check", name, "--watch", "5"], env=ENV, capture_output=True, text=True)
    judge(f"{name}: check --watch 5: {checked.stdout.strip().splitlines()[-1]}", checked.returncode == 0)


def kill(name, machine):
    machine.kill()
    began = time.monotonic()
    machine.wait()
    until("its death", lambda: any(line.split()[:2] == [name, "dead"] for line in domstat("ls").splitlines()), 10)
    judge(f"{name}: kill -9: dead for readers after {(time.monotonic() - began) * 1e3:.0f} ms", True)


def rom_under(accel):
    name = f"rom-{accel}"
    machine = vm(name, rom("w.rom"), "-smp", "2", *disk(f"{name}.raw"), "-object", "iothread,id=io0", *object_of(name), accel=accel)
    own = Qmp(DIR / f"{name}.own")
    until("the domain", lambda: show(name))
    until("writes", lambda: fields(show(name)["blks"][0]["groups"], "io")["wr_req"] > 1000)
    compare(name, own, machine.pid)
    live(name, own, machine)
    watch(name)
    compare(name, own, machine.pid)
    kill(name, machine)


def kvm_runs():
    """Whether this QEMU gets a VM to run under KVM."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    machine = vm("probe", rom("p.rom"), *disk("p.raw"), accel="kvm")
    time.sleep(2)
    runs = machine.poll() is None and Qmp(DIR / "probe.own")("query-status")["running"]
    machine.kill()
    machine.wait()
    return runs


def boot():
    rom_under("tcg")
    if kvm_runs():
        rom_under("kvm")
    else:
        print("skipped: no VM runs under KVM here")
    return not WRONG


main((boot,), __doc__)
