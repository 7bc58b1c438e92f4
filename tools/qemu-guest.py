#!/usr/bin/env python3
"""Judges domstat on a Linux that runs in QEMU: what the guest itself measures, and what its kernel says.

    tools/qemu-guest.py disk        latencies and mean queue length of a throttled disk next to the guest's and QEMU's
    tools/qemu-guest.py balloon     what the guest's balloon driver reports next to its /proc/meminfo and /proc/vmstat
    tools/qemu-guest.py errors      a VM that an error of its storage stops: no space, and a sector that cannot be written
    tools/qemu-guest.py limits      cpu.max of a process and of a micro-VM next to cpu.stat; domstat runs in the guest

GUEST is the directory that tests/linux/image.sh has made, DOMSTAT the command to judge. Exits with 1 if the numbers
differ by more than is promised.
"""
import json
import os
import re
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from vms import DIR, QEMU, Lines, Qmp, daemon, end, main, show, start, until

GUEST = os.environ.get("GUEST", "target/linux")
WRONG = []


def judge(what, holds):
    print(f"{'ok   ' if holds else 'WRONG'} {what}")
    if not holds:
        WRONG.append(what)


class Console(Lines):
    """The guest's console: lines that begin with @ are for us."""

    def said(self, wanted):
        """The rest of the next line that begins with this word, and the lines before it."""
        before = []
        while (line := self.file.readline()):
            line = line.strip()
            if line.startswith(f"@{wanted}"):
                return line[len(wanted) + 1:].strip(), before
            if line.startswith("@"):
                before.append(line[1:])
        raise SystemExit(f"the guest ended before it said {wanted}: {before}")

    def line(self, text):
        self.socket.sendall(text.encode() + b"\n")


def guest(scenario, *more, memory=192):
    """A VM that runs a scenario, its console, and our own QMP connection."""
    (DIR / "qmp").mkdir(exist_ok=True)
    start(*QEMU, "-accel", "tcg,thread=multi", "-cpu", "max", "-m", memory, "-smp", "2", "-nodefaults", "-no-reboot",
          "-display", "none", "-name", f"{scenario},debug-threads=on",
          "-kernel", f"{GUEST}/vmlinuz", "-initrd", f"{GUEST}/initrd",
          "-append", f"console=ttyS0 loglevel=0 mitigations=off psi=1 scenario={scenario}",
          "-serial", f"unix:{DIR}/{scenario}.tty,server=on,wait=on",
          "-qmp", f"unix:{DIR}/qmp/{scenario}.qmp,server=on,wait=off",
          "-qmp", f"unix:{DIR}/{scenario}.own,server=on,wait=off", *more)
    console = Console(DIR / f"{scenario}.tty")
    return console, Qmp(DIR / f"{scenario}.own")


def image(name, size):
    path = DIR / name
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def of_disk(sample):
    """The groups of vda and its distributions."""
    at = next(b["index"] for b in sample["blks"] if b["groups"]["identity"].get("fields", {}).get("name") == "vda")
    hist = next(b["groups"] for b in sample["blk_hists"] if b["index"] == at)
    return next(b["groups"] for b in sample["blks"] if b["index"] == at), hist


def percentile(buckets, share):
    """The bucket of the value that this share of all is not above."""
    rank, below = share * sum(buckets), 0
    for bucket, count in enumerate(buckets):
        below += count
        if below >= rank:
            return bucket


def disk():
    console, own = guest("disk", "-device", "virtio-blk-pci,drive=d,id=virtio-disk0", "-drive",
                         f"if=none,id=d,format=raw,file={image('d.raw', 16 << 20)},stats-intervals.0=2")
    daemon("--qmp", DIR / "qmp/disk.qmp", "--trust-names", "--interval", "0.1", "--latency-histograms")
    console.said("ready")

    def settled():
        """The numbers when everything that QEMU counts is published: nothing is in flight."""
        def ready():
            groups, hist = of_disk(show("disk"))
            stats = own("query-blockstats")[0]["stats"]
            bins = stats["rd_latency_histogram"]["bins"]
            same = groups["io_times"]["fields"]["rd_total_ns"] == stats["rd_total_time_ns"]
            return same and hist["rd_latency"]["fields"]["ns"] == bins and (groups, hist, bins)
        return until("QEMU's bins to be published", ready)

    qdev = own("query-blockstats")[0]["qdev"]
    for threads, reads, iops in ((1, 400, 0), (4, 100, 40), (16, 60, 100)):
        own.ask("block_set_io_throttle", {"id": qdev, "iops": iops} | dict.fromkeys(
            ("bps", "bps_rd", "bps_wr", "iops_rd", "iops_wr"), 0))
        before = settled()
        name = f"{threads} threads, {iops or 'any number of'} requests a second"
        console.line(f"{threads} {reads}")
        if iops:
            # For the same 2 s in the middle of it.
            time.sleep(2)
            began = of_disk(show("disk"))[0]["io_times"]
            time.sleep(2.5)
            depth = own("query-blockstats")[0]["stats"]["timed_stats"][0]["avg_rd_queue_depth"]
            ended = of_disk(show("disk"))[0]["io_times"]
            length = ((ended["fields"]["rd_total_ns"] - began["fields"]["rd_total_ns"])
                      / (ended["updated_ns"] - began["updated_ns"]))
            judge(f"{name}: mean queue length {length:.3f}, QEMU's {depth:.3f}", abs(length / depth - 1) < 0.05)
        words = console.said("load")[0].split()
        seen = {words[i]: int(words[i + 1]) for i in range(0, 12, 2)}
        after = settled()
        ours = [b - a for a, b in zip(before[1]["rd_latency"]["fields"]["ns"], after[1]["rd_latency"]["fields"]["ns"])]
        theirs = [b - a for a, b in zip(before[2], after[2])]
        guests = [int(n) for n in words[13:]]
        print(f"      {name}: guest {seen}")
        judge(f"{name}: {sum(ours)} reads in the distribution, the guest made {seen['reads']}", sum(ours) == seen["reads"])
        judge(f"{name}: every bucket is QEMU's bin", ours == theirs)
        for share in (0.5, 0.99):
            one, other = percentile(ours, share), percentile(guests, share)
            said = f"p{share * 100:.0f} in bucket {one} (below {(1 << one) / 1e6:.3f} ms), of the guest in {other}"
            if iops:
                judge(f"{name}: {said}", abs(one - other) <= 1)
            else:
                # Here most of what the guest sees is the emulation of its CPU.
                print(f"      {name}: {said}")
        if iops:
            ns = after[0]["io_times"]["fields"]["rd_total_ns"] - before[0]["io_times"]["fields"]["rd_total_ns"]
            length, little = ns / seen["took"], seen["sum"] / seen["took"]
            judge(f"{name}: mean queue length {length:.3f}, the guest's {little:.3f}", abs(length / little - 1) < 0.05)
    console.line("end")
    return not WRONG


def vmstat(lines):
    return {words[0].rstrip(":"): int(words[1]) for words in map(str.split, lines) if len(words) > 1 and words[1].isdigit()}


# Names in our region, in QEMU's answer, and of the sums of lines in the guest's /proc/vmstat.
REPORTED = [
    ("memory", "major_faults", "stat-major-faults", ["pgmajfault"]),
    ("memory", "minor_faults", "stat-minor-faults", ["pgfault"]),
    ("memory", "swap_in_bytes", "stat-swap-in", ["pswpin"]),
    ("memory", "unused_bytes", "stat-free-memory", []),
    ("memory", "available_bytes", "stat-total-memory", []),
    ("memory", "usable_bytes", "stat-available-memory", []),
    ("balloon", "disk_caches_bytes", "stat-disk-caches", []),
    ("balloon", "hugetlb_pgalloc", "stat-htlb-pgalloc", ["htlb_buddy_alloc_success"]),
    ("balloon", "hugetlb_pgfail", "stat-htlb-pgfail", ["htlb_buddy_alloc_fail"]),
    ("balloon", "oom_kills", "stat-oom-kills", ["oom_kill"]),
    ("balloon", "alloc_stalls", "stat-alloc-stalls", ["allocstall_dma", "allocstall_dma32", "allocstall_normal", "allocstall_movable"]),
    ("balloon", "async_scan", "stat-async-scans", ["pgscan_kswapd", "pgscan_khugepaged"]),
    ("balloon", "direct_scan", "stat-direct-scans", ["pgscan_direct"]),
    ("balloon", "async_reclaim", "stat-async-reclaims", ["pgsteal_kswapd", "pgsteal_khugepaged"]),
    ("balloon", "direct_reclaim", "stat-direct-reclaims", ["pgsteal_direct"]),
]


def balloon():
    for scenario in ("balloon", "hog"):
        console, own = guest(scenario, "-device", "virtio-balloon-pci,id=b0", "-device",
                             "virtio-blk-pci,drive=d,id=virtio-disk0", "-drive",
                             f"if=none,id=d,format=raw,file={image(f'{scenario}.raw', 32 << 20)}")
        observer = daemon("--qmp", DIR / f"qmp/{scenario}.qmp", "--trust-names", "--interval", "0.1", "--balloon-interval", "1")
        console.said("ready")
        # Two reports later what happened before is in them.
        last = lambda: own("qom-get", path="/machine/peripheral/b0", property="guest-stats")
        first = until("a report", lambda: last()["last-update"] or None)
        until("two more reports", lambda: last()["last-update"] >= first + 3)
        own("stop")
        stats = last()

        def published():
            sample = show(scenario)["groups"]
            fields = {g: sample[g].get("fields") or {} for g in ("memory", "balloon")}
            return fields["memory"].get("unused_bytes") == stats["stats"]["stat-free-memory"] and sample
        sample = until("what QEMU has", published)
        own("cont")
        console.line("say")
        _, lines = console.said("done")
        guests = vmstat(lines)
        for group, field, name, of in REPORTED:
            ours, theirs = sample[group]["fields"][field], stats["stats"].get(name)
            # All bits set: the guest's driver does not report it.
            theirs = None if theirs is None or theirs >= 1 << 63 else theirs
            known = "not reported" if theirs is None else theirs
            judge(f"{scenario}: {group}.{field} {ours} is QEMU's {name} {known}", ours == theirs)
            of = [guests[line] for line in of if line in guests]
            if of and ours is not None:
                # The guest has gone on since its report.
                judge(f"{scenario}: and {sum(of)} in /proc/vmstat, later", ours <= sum(of) <= ours * 1.1 + 2000)
        if scenario == "balloon":
            cached = (guests["Cached"] + guests["Buffers"]) << 10
            ours = sample["balloon"]["fields"]["disk_caches_bytes"]
            judge(f"{scenario}: {ours} of caches, /proc/meminfo says {cached}", abs(ours - cached) < 4 << 20)
        age = sample["balloon"]["updated_ns"] - sample["balloon"]["fields"]["last_update_ns"]
        judge(f"{scenario}: the report was {age / 1e9:.1f} s old", -1e9 <= age < 10e9)
        observer.terminate()
        observer.wait(20)
        interval = own("qom-get", path="/machine/peripheral/b0", property="guest-stats-polling-interval")
        judge(f"{scenario}: the interval is {interval} again", interval == 0)
        console.line("end")
    return not WRONG


def errors():
    mount = DIR / "full"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", mount], check=True)
    try:
        console, own = guest("writes", "-blockdev", f"driver=file,filename={image('full/d.raw', 8 << 20)},node-name=file",
                             "-blockdev", "driver=blkdebug,image=file,node-name=debug,inject-error.0.event=pwritev,"
                             "inject-error.0.errno=5,inject-error.0.once=on,inject-error.0.sector=6144", "-blockdev",
                             "driver=raw,file=debug,node-name=d", "-device",
                             "virtio-blk-pci,drive=d,id=virtio-disk0,werror=stop,rerror=stop")
        daemon("--qmp", DIR / "qmp/writes.qmp", "--trust-names", "--interval", "0.2")
        console.said("ready")
        until("the domain", lambda: show("writes"))

        def status():
            group = show("writes")["groups"]["status"]["fields"]
            return group["state"], group["reason"], group["device"]

        until("it to run", lambda: status()[0] == "running")
        console.line("go")
        seen = until("the full file system", lambda: status()[0] == "io_error" and status())
        judge(f"no space: {seen}, QEMU says {own('query-status')['status']}", seen == ("io_error", "no_space", 0))
        stopped = [e["data"] for e in own.events if e["event"] == "BLOCK_IO_ERROR"]
        judge(f"no space: QEMU's event {stopped[-1]}", stopped[-1]["nospace"])
        subprocess.run(["mount", "-o", "remount,size=32m", mount], check=True)
        own("cont")
        seen = until("the sector that cannot be written", lambda: status()[:2] == ("io_error", "io_error") and status())
        own("query-status")
        stopped = [e["data"] for e in own.events if e["event"] == "BLOCK_IO_ERROR"]
        judge(f"an error: {seen}, QEMU's event {stopped[-1]}", seen[2] == 0 and not stopped[-1]["nospace"])
        own("cont")
        wrote, _ = console.said("wrote")
        judge(f"the guest goes on (dd ended with {wrote})", wrote == "0")
        until("it to run", lambda: status()[0] == "running" and status()[2] is None)
    finally:
        end()
        subprocess.run(["umount", mount], check=True)
    return not WRONG


def keyed(text):
    words = text.split()
    return dict(zip(words[::2], map(int, words[1::2])))


def limits():
    for scenario, rounds in (("process", 3), ("kvm", 1)):
        console, _ = guest(scenario)
        throttled = 0
        for _ in range(rounds):
            limited = json.loads(console.said("limited")[0])["groups"]["limits"]["fields"]
            cpu, memory = keyed(console.said("stat")[0]), keyed(console.said("memory")[0])
            sample = json.loads(console.said("show")[0])["groups"]
            fields = sample["limits"]["fields"]
            judge(f"{scenario}: a limit of {limited['cpu_quota_ns']} ns in {limited['cpu_period_ns']}, then of {fields['cpu_quota_ns']}",
                  (limited["cpu_quota_ns"], limited["cpu_period_ns"], fields["cpu_quota_ns"]) == (20_000_000, 100_000_000, 0))
            for field, theirs in (("cpu_throttled_ns", cpu["throttled_usec"] * 1000),
                                  ("cpu_throttled_periods", cpu["nr_throttled"]), ("cpu_periods", cpu["nr_periods"]),
                                  ("cpu_weight", 50), ("memory_max_bytes", 64 << 20), ("oom_kills", memory["oom_kill"])):
                judge(f"{scenario}: {field} {fields[field]}, the kernel says {theirs}", fields[field] == theirs)
            judge(f"{scenario}: it was throttled more", fields["cpu_throttled_ns"] > throttled)
            throttled = fields["cpu_throttled_ns"]
        console.said("end")
    return not WRONG


main((disk, balloon, errors, limits), __doc__)
