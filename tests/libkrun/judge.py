#!/usr/bin/env python3
"""Runs a guest in the patched libkrun and judges what is published by what the guest and the kernel say.

    judge.py LAUNCHER IMAGE [VERB...]

    check    rules, counters next to the guest's, kill -9, reset (without a verb this and `books`)
    books    run, steal and blocked time next to the kernel's books over 20 s of load
    cost     nanoseconds and instructions of an exit and of a request, with and without publishing

The guest's commands are in guest/guest.c. DOMSTAT is the command.
"""
import atexit
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../tools"))
import books
import steps

LAUNCHER, IMAGE = sys.argv[1:3]
VERBS = sys.argv[3:] or ["check", "books"]
SECONDS = 20
# What the two bursts of guest.c do.
EXITS, READS = 10_000, 1_000
# Bursts of each VM, in turns, each a tenth of a second: what disturbs one burst disturbs its neighbor, too.
ROUNDS = 100
# Exits and requests that are stepped through.
STEPPED = 200
# System calls between which that is done: ioctl(KVM_RUN), and the one read of a request of one segment.
IOCTL, KVM_RUN, PREADV = 16, 0xAE80, 295
# Longest wait for a line of the guest.
PATIENCE = 60
# Until a vCPU that has nothing to do has halted.
AT_REST = 0.05


def fail(why):
    sys.exit(f"judge.py: {why}")


def domstat(*args, check=True):
    done = subprocess.run([books.DOMSTAT, *args], capture_output=True, text=True)
    if check and done.returncode != 0:
        fail(f"domstat {' '.join(args)}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class Vm:
    def __init__(self, dir, cpus, nr_vcpus, name=None):
        disk = os.path.join(dir, name or "none")
        with open(disk, "wb") as file:
            file.truncate(4 << 20)
        command = ["taskset", "-c", cpus, LAUNCHER, IMAGE, disk, str(nr_vcpus)] + ([name] if name else [])
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        # Left alone it would go on for ever.
        atexit.register(self.process.kill)
        self.line("up")

    def line(self, begin):
        """The guest's next line, which begins so, as a dict."""
        end = time.monotonic() + PATIENCE
        line = b""
        while not line.endswith(b"\n"):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                fail(f"the guest does not say {begin}")
            byte = os.read(self.process.stdout.fileno(), 1)
            if not byte:
                fail(f"the guest ended before it said {begin}")
            line += byte
        words = line.decode().split()
        if words[0] != begin:
            fail(f"the guest says {line!r}, not {begin}")
        return dict(zip(words[1::2], map(int, words[2::2])))

    def say(self, command):
        self.process.stdin.write(command)
        self.process.stdin.flush()

    def pause(self):
        self.say(b"p")
        return self.line("paused")

    def books_of(self, thread):
        return books.threads(self.process.pid)[thread]

    def end(self):
        self.say(b"q")
        self.line("resetting")
        if (code := self.process.wait(PATIENCE)) != 0:
            fail(f"the VMM ended with {code}")

    def kill(self):
        self.process.kill()
        self.process.wait()


def fields(record, group):
    return record["groups"][group]["fields"]


def compare_with_guest(name, said):
    domain = books.shown(name)
    blk, vcpus = domain["blks"][0], domain["vcpus"]
    published = {
        **fields(blk, "io"),
        **fields(blk, "io_times"),
        "mmio": fields(vcpus[0], "exits")["mmio_exits"],
        "outs": fields(vcpus[1], "exits")["io_exits"],
    }
    wrong = {k: (published[k], said[k]) for k in said if k != "resets" and published[k] != said[k]}
    if wrong or not said["rd_req"] or not said["outs"]:
        fail(f"published and counted by the guest differ: {wrong}")
    if published["in_flight"] != 0:
        fail(f"{published['in_flight']} requests in flight in a disk at rest")
    print("equal to what the guest counts:", " ".join(f"{k} {v}" for k, v in said.items()))


def check(dir, entries):
    # One CPU for all threads, so that they have something to wait for.
    vm = Vm(dir, "0", 2, "krun")
    verdict = domstat("check", "krun", "--watch", "12", "--against", str(vm.process.pid))
    print(verdict.splitlines()[-1])
    compare_with_guest("krun", vm.pause())
    for command in (b"r", b"g"):
        # The guest takes one command a tick, and keeps the last.
        vm.say(command)
        time.sleep(0.5)
    time.sleep(1)
    compare_with_guest("krun", vm.pause())
    vm.kill()
    said = domstat("ls", check=False)
    if not any(line.split()[:2] == ["krun", "dead"] for line in said.splitlines()):
        fail(f"after kill -9: {said}")
    print("after kill -9:", *said.splitlines()[1:])
    Vm(dir, "0", 2, "krun").end()
    if os.listdir(entries):
        fail(f"after the guest's reset there is {os.listdir(entries)}")
    print("after the guest's reset: no entry, and the VMM ended well")


def compare_books(dir, _):
    vm = Vm(dir, "0", 2, "krun")
    worst = books.compare("krun", vm.process.pid, "fc_vcpu ", SECONDS)
    if worst > books.TOLERANCE:
        fail(f"a time is {worst:.1%} off")
    vm.end()


# What is measured: command, thread, first and last line, how often, and the system call that each one has.
COSTS = {
    "exit": (b"x", "fc_vcpu 0", "writing", "written", EXITS, (IOCTL, KVM_RUN)),
    "request": (b"d", "block worker", "reading", "read", READS, (PREADV, None)),
}


def burst_ns(vm, what):
    """CPU time of the thread for each exit or request. Between bursts the vCPU halts, and its books are exact."""
    command, thread, first, last, number, _ = COSTS[what]
    path = vm.books_of(thread)
    before = books.schedstat(path)[0]
    vm.say(command)
    vm.line(first)
    vm.line(last)
    time.sleep(AT_REST)
    return (books.schedstat(path)[0] - before) / number


def instructions(vm, what):
    command, thread, first, last, _, (number, argument) = COSTS[what]
    tid = int(vm.books_of(thread).split("/")[-2])
    vm.say(command)
    vm.line(first)
    found = steps.between_calls(tid, number, argument, STEPPED)
    vm.line(last)
    return statistics.median(found)


def cost(dir, _):
    cpus = ",".join(map(str, os.sched_getaffinity(0)))
    vms = [Vm(dir, cpus, 1), Vm(dir, cpus, 1, "cost")]
    for vm in vms:
        vm.pause()
        time.sleep(AT_REST)
    ns = {what: ([], []) for what in COSTS}
    for turn in range(ROUNDS):
        for what in COSTS:
            for nth in (0, 1) if turn % 2 else (1, 0):
                ns[what][nth].append(burst_ns(vms[nth], what))
    print(f"| CPU time, median of {ROUNDS} bursts | without | with | median difference, its standard error |")
    print("|---|---|---|---|")
    for what, times in ns.items():
        off, on = map(statistics.median, times)
        low, middle, high = statistics.quantiles([b - a for a, b in zip(*times)], n=4)
        # Of the median of many values that are distributed normally: their spread from the quartiles.
        error = 1.253 * (high - low) / 1.349 / ROUNDS**0.5
        share = f"{middle:+.0f} ns ± {error:.0f}, {middle / off:+.2%} ± {error / off:.2%}"
        print(f"| {what} | {off:.0f} ns | {on:.0f} ns | {share} |")
    for what in COSTS:
        off, on = (instructions(vm, what) for vm in vms)
        print(f"| {what}, instructions of the VMM | {off:.0f} | {on:.0f} | {on - off:+.0f} |")
    latency = fields(books.shown("cost")["blks"][0], "io_times")["rd_total_ns"]
    requests = fields(books.shown("cost")["blks"][0], "io")["rd_req"]
    print(f"published latency of a read: {latency / requests:.0f} ns on average")
    for vm in vms:
        vm.end()


def main():
    verbs = {"check": check, "books": compare_books, "cost": cost}
    for verb in VERBS:
        with tempfile.TemporaryDirectory() as dir:
            os.environ["DOMSTAT_DIR"] = entries = os.path.join(dir, "regions")
            os.mkdir(entries)
            verbs[verb](dir, entries)


main()
