#!/usr/bin/env python3
"""Compares the times that a VM publishes of its vCPUs with the kernel's books of their threads, under load.

    books.py NAME PID PREFIX [SECONDS]    20 s by default; the threads are called PREFIX and the vCPU's index

A vCPU's runstate has to agree with /proc/PID/task/TID/schedstat within 3 %. Two programs that never rest run
meanwhile where the VM's process may run: start it with `taskset -c 0`. DOMSTAT is the command.
"""
import json
import os
import subprocess
import sys
import time

DOMSTAT = os.environ.get("DOMSTAT", "domstat")
TOLERANCE = 0.03
# A time that is a smaller share of the whole than this is compared with the whole's: sampling a state does not
# see some microseconds of it.
LEAST_SHARE = 0.01
STATES = {"run": "running_ns", "steal": "runnable_ns", "blocked": "blocked_ns"}


def schedstat(path):
    with open(path) as file:
        return list(map(int, file.read().split()))


def threads(pid):
    """Paths of the books of a process's threads, by the threads' names."""
    tasks = f"/proc/{pid}/task"
    paths = {}
    for tid in os.listdir(tasks):
        with open(f"{tasks}/{tid}/comm") as file:
            paths[file.read().strip()] = f"{tasks}/{tid}/schedstat"
    return paths


def shown(name):
    return json.loads(subprocess.run([DOMSTAT, "show", name, "--json"], check=True, capture_output=True).stdout)


def look(name, paths):
    at = time.monotonic_ns()
    kernel = [schedstat(path)[:2] for path in paths]
    published = []
    for vcpu in shown(name)["vcpus"]:
        group = vcpu["groups"]["runstate"]
        published.append([group["updated_ns"], *(group["fields"][field] for field in STATES.values())])
    return at, kernel, published


def compare(name, pid, prefix, seconds):
    """Prints the table; the largest difference, as a share."""
    named = threads(pid)
    paths = [named[f"{prefix}{index}"] for index in range(len(shown(name)["vcpus"]))]
    cpus = ",".join(map(str, os.sched_getaffinity(pid)))
    busy = ["taskset", "-c", cpus, "sh", "-c", "while :; do :; done"]
    load = [subprocess.Popen(busy) for _ in range(2)]
    try:
        # Until the VM and its load share the CPU as they will.
        time.sleep(1)
        first = look(name, paths)
        time.sleep(seconds)
        last = look(name, paths)
    finally:
        for process in load:
            process.kill()
            process.wait()
    elapsed = last[0] - first[0]
    print(f"| {name}, vCPU | | the kernel's books, s of {elapsed / 1e9:.1f} | published | difference |")
    print("|---|---|---|---|---|")
    worst = 0
    for index, (before, after) in enumerate(zip(first[1], last[1], strict=True)):
        kernel = [b - a for a, b in zip(before, after)]
        kernel.append(max(elapsed - sum(kernel), 0))
        between, *published = [b - a for a, b in zip(first[2][index], last[2][index])]
        for state, of_kernel, of_domstat in zip(STATES, kernel, published):
            # Both looks are not at the same moment: scaled to the same time.
            scaled = of_domstat * elapsed / between
            off = abs(scaled - of_kernel) / max(of_kernel, LEAST_SHARE * elapsed)
            worst = max(worst, off)
            print(f"| {index} | {state} | {of_kernel / 1e9:.3f} | {scaled / 1e9:.3f} | {off:.1%} |")
    return worst


def main():
    name, pid, prefix = sys.argv[1:4]
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 20
    worst = compare(name, int(pid), prefix, seconds)
    if worst > TOLERANCE:
        sys.exit(f"books.py: a time is {worst:.1%} off")


if __name__ == "__main__":
    main()
