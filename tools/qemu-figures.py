#!/usr/bin/env python3
"""Measures `domstat run qemu` on real QEMU processes and prints what docs/qemu.md shows.

    tools/qemu-figures.py table             every published field next to QMP's value, taken in turn
    tools/qemu-figures.py firings [N]       N threshold firings, the QMP connection cut at random
    tools/qemu-figures.py chains [N]        N snapshots, commits and pivots, a threshold right after each
    tools/qemu-figures.py fleet [N]         N VMs, one of them stopped (SIGSTOP): ages
    tools/qemu-figures.py cost [N]          CPU time of the daemon per VM at 1 Hz
    tools/qemu-figures.py reader            system calls of a process that reads (needs strace)
    tools/qemu-figures.py libvirt           next to `virsh domstats` (needs a libvirtd that runs)

DOMSTAT is the command to measure (default: target/release/domstat), QEMU that which is observed. Exits with 1 if what was
promised is not what was seen.
"""
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
from vms import ACCEL, DIR, DOMSTAT, ENV, Lines, Qmp, daemon, disk, domstat, main, rom, show, start, until, vm


def table():
    node = "driver=file,filename=%s,node-name=below" % (DIR / "v.raw")
    (DIR / "v.raw").write_bytes(b"x" * (8 << 20))
    machine = vm(
        "table", rom("w.rom"), "-smp", "2", *disk("t.raw"), "-device", "virtio-balloon-pci",
        "-blockdev", node, "-blockdev", "driver=raw,file=below,node-name=v",
        "-device", "virtio-blk-pci,drive=v,id=virtio-disk0",
    )
    daemon("--qmp", DIR / "qmp/table.qmp", "--interval", "0.2", "--stats-interval", "0.2")
    until("the domain", lambda: show("table"))
    own = Qmp(DIR / "table.own")
    domstat("block", "threshold", "table", "vda", "50%")
    time.sleep(1)
    # The VM is stopped, so that both look at the same numbers.
    own("stop")
    time.sleep(3)
    stats = own("query-blockstats")
    nodes = {n["node-name"]: n for n in own("query-named-block-nodes", flat=True)}
    rows = []

    def row(field, ours, theirs, source, slack=0):
        same = ours == theirs or (None not in (ours, theirs) and abs(ours - theirs) <= slack)
        rows.append((field, ours, theirs, source, "" if same else "DIFFERS"))

    sample = show("table")
    described = json.loads(domstat("show", "table", "--all", "--json"))
    for name, entry in zip(["hda", "vda"], stats):
        groups = next(b["groups"] for b in sample["blks"]
                      if b["groups"]["identity"].get("fields", {}).get("name") == name)
        s, above = entry["stats"], nodes[entry["node-name"]]["image"]
        pairs = [
            ("io", "rd_req", s["rd_operations"]), ("io", "rd_bytes", s["rd_bytes"]),
            ("io", "wr_req", s["wr_operations"]), ("io", "wr_bytes", s["wr_bytes"]),
            ("io", "errs", sum(s.get(f"failed_{kind}_operations", 0) for kind in ("rd", "wr", "flush", "unmap", "zone_append"))),
            ("io_times", "rd_total_ns", s["rd_total_time_ns"]),
            ("io_times", "wr_total_ns", s["wr_total_time_ns"]),
            ("io_times", "flush_req", s["flush_operations"]),
            ("io_times", "flush_total_ns", s["flush_total_time_ns"]),
        ]
        for group, field, value in pairs:
            row(f"{name} {group}.{field}", groups[group]["fields"][field], value, "query-blockstats")
        extent = groups["extent"]["fields"]
        below = entry["parent"]
        row(f"{name} extent.allocation_bytes", extent["allocation_bytes"],
            below["stats"]["wr_highest_offset"], "query-blockstats, below the format")
        row(f"{name} extent.capacity_bytes", extent["capacity_bytes"], above["virtual-size"], "query-named-block-nodes")
        row(f"{name} extent.physical_bytes", extent["physical_bytes"], above["actual-size"], "query-named-block-nodes")
        row(f"{name} extent.threshold_bytes", extent["threshold_bytes"],
            nodes[below["node-name"]]["write_threshold"], "query-named-block-nodes")
    memory = sample["groups"]["memory"]["fields"]
    row("memory.current_bytes", memory["current_bytes"], own("query-balloon")["actual"], "query-balloon")
    row("memory.maximum_bytes", memory["maximum_bytes"],
        own("query-memory-size-summary")["base-memory"], "query-memory-size-summary")
    rss = int(Path(f"/proc/{machine.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    row("memory.rss_bytes", memory["rss_bytes"], rss, "/proc/PID/statm", slack=4 << 20)
    fields = Path(f"/proc/{machine.pid}/stat").read_text().rsplit(")", 1)[1].split()
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    cpu = sample["groups"]["cpu"]["fields"]
    row("cpu.user_ns", cpu["user_ns"], int(fields[11]) * tick, "/proc/PID/stat", slack=10 * tick)
    row("cpu.system_ns", cpu["system_ns"], int(fields[12]) * tick, "/proc/PID/stat", slack=10 * tick)
    for cpu in own("query-cpus-fast"):
        i, tid = cpu["cpu-index"], cpu["thread-id"]
        ran, waited, slices = map(int, Path(f"/proc/{machine.pid}/task/{tid}/schedstat").read_text().split())
        groups = sample["vcpus"][i]["groups"]
        row(f"vcpu {i} sched.time_ns", groups["sched"]["fields"]["time_ns"], ran, "schedstat", slack=5_000_000)
        row(f"vcpu {i} sched.delay_ns", groups["sched"]["fields"]["delay_ns"], waited, "schedstat", slack=5_000_000)
        row(f"vcpu {i} sched.timeslices", groups["sched"]["fields"]["timeslices"], slices, "schedstat", slack=20)
        if ACCEL == "kvm":
            kvm = {r["qom-path"]: r["stats"] for r in own("query-stats", target="vcpu")}[cpu["qom-path"]]
            ours = described[f"arch_vcpu[{i}]"]["kvm"]["fields"]
            same = [s for s in kvm if ours[s["name"]]["value"] == (int(s["value"]) if isinstance(s["value"], bool) else s["value"])]
            # Each query interrupts the vCPU, which is itself counted.
            row(f"vcpu {i} kvm: statistics that agree", len(same), len(kvm), "query-stats", slack=4)
            for name in ("exits", "halt_exits", "irq_exits", "signal_exits", "insn_emulation"):
                theirs = next(s["value"] for s in kvm if s["name"] == name)
                row(f"vcpu {i} exits.{name}", groups["exits"]["fields"][name], theirs, "query-stats", slack=4)
    state = described["arch_dom"]["libvirt_state"]["fields"] if "arch_dom" in described else described["arch_dom[0]"]["libvirt_state"]["fields"]
    row("libvirt_state.state", state["state"]["value"], 3, "query-status: paused")
    print("| field | published | QEMU or /proc says | from | |\n|---|---|---|---|---|")
    for r in rows:
        print("| " + " | ".join("-" if c is None else str(c) for c in r) + " |")
    return not any(r[4] for r in rows)


def chains(count=200):
    """Replaces the images of two disks again and again, and arms a threshold at once each time."""
    size = 8 << 20
    disks = {}
    more = []
    for n, name in enumerate(["vda", "vdb"]):
        with open(DIR / f"{name}.raw", "wb") as f:
            f.truncate(size)
        more += ["-blockdev", f"driver=file,filename={DIR}/{name}.raw,node-name=s{n}",
                 "-blockdev", f"driver=raw,file=s{n},node-name=f{n}",
                 "-device", f"virtio-blk-pci,drive=f{n},id=virtio-disk{n}"]
        disks[name] = f"virtio-disk{n}"
    vm("chains", rom("c.rom", spin=True), *more)
    daemon("--qmp", DIR / "qmp/chains.qmp", "--interval", "1")
    until("the domain", lambda: show("chains"))
    own = Qmp(DIR / "chains.own")
    told = start(DOMSTAT, "events", "chains", "--json", env=ENV, stdout=open(DIR / "events", "w"))
    time.sleep(1)

    def chain(name):
        found = next(e for e in own("query-blockstats") if disks[name] in e.get("qdev", ""))
        nodes = []
        while found:
            nodes.append((found["node-name"], found["parent"]["node-name"]))
            found = found.get("backing")
        return nodes

    def wait(event, job):
        ready = lambda: any(e["event"] == event and e["data"]["device"] == job for e in own.events)
        until(event, lambda: own("query-status") and ready())

    def replace(name, kind, n):
        active, below = chain(name)[0], chain(name)[1:]
        job = f"mine-{n}"
        if kind == "snapshot":
            own("blockdev-snapshot-sync", node_name=active[0], snapshot_file=str(DIR / f"{n}.qcow2"),
                snapshot_node_name=f"q{n}")
            return
        if kind == "commit":
            own("block-commit", device=active[0], job_id=job)
        else:
            own("drive-mirror", device=active[0], job_id=job, target=str(DIR / f"{n}.raw"), format="raw",
                sync="full", node_name=f"q{n}")
        wait("BLOCK_JOB_READY", job)
        own("block-job-complete", device=job)
        wait("BLOCK_JOB_COMPLETED", job)

    kinds, wrong, refused, beside, jobs = {}, [], [], 0, {}
    for n in range(count):
        name = random.choice(list(disks))
        deep = len(chain(name)) > 1
        kind = random.choice(["snapshot", "commit", "mirror"]) if deep else random.choice(["snapshot", "mirror"])
        if len(chain(name)) > 4:
            kind = "commit"
        if kind != "snapshot":
            jobs[f"mine-{n}"] = name
        kinds[kind] = kinds.get(kind, 0) + 1
        value = random.randrange(1, size)
        arm = [DOMSTAT, "block", "threshold", "chains", name, str(value), "--json"]
        # Half of them behind the change, half of them while it is made.
        if n % 2:
            replace(name, kind, n)
            time.sleep(random.choice([0, random.uniform(0, 1.2)]))
            armed = subprocess.run(arm, env=ENV, capture_output=True, text=True)
        else:
            running = subprocess.Popen(arm, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(random.uniform(0, 0.03))
            before = chain(name)[0][1]
            replace(name, kind, n)
            out, err = running.communicate()
            armed = subprocess.CompletedProcess(arm, running.returncode, out, err)
        if armed.returncode:
            refused.append((n, kind, armed.stderr.strip()))
            continue
        node = json.loads(armed.stdout)["node"]
        levels = {x["node-name"]: x["write_threshold"] for x in own("query-named-block-nodes", flat=True)}
        right = chain(name)[0][1]
        others = [x for x, level in levels.items() if level == value and x != node]
        if node == right and levels.get(node) == value and not others:
            pass
        elif n % 2 == 0 and node == before and not others:
            # It was the active one's until the image was replaced.
            beside += 1
        else:
            wrong.append((n, kind, name, node, right, others))
        for x, level in levels.items():
            if level:
                own("block-set-write-threshold", node_name=x, write_threshold=0)
    time.sleep(2)
    told.terminate()
    events = [json.loads(line) for line in (DIR / "events").read_text().splitlines()]
    of_jobs = [e for e in events if e["event"] in ("job_ready", "job_ended")]
    bound = [e for e in of_jobs if e["disk"] == jobs.get(e["job"])]
    for event in of_jobs:
        if event not in bound:
            print(f"not of {jobs.get(event['job'])}: {event}")
    print(f"{count} changes ({kinds}), a threshold with each: {len(wrong)} on a wrong node {wrong}, "
          f"{beside} armed before the change, {len(refused)} refused {refused}; "
          f"{len(bound)} of {len(of_jobs)} events of {len(jobs)} jobs have their disk")
    return not wrong and len(bound) == len(of_jobs) == 2 * len(jobs)


class Cutter(threading.Thread):
    """Stands between the daemon and QEMU, and breaks the connection now and then."""

    def __init__(self, path, to):
        super().__init__(daemon=True)
        self.to, self.cuts, self.on = to, 0, True
        # Until then nothing is connected.
        self.away_until = 0
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen(4)

    def run(self):
        while True:
            time.sleep(max(0, self.away_until - time.monotonic()))
            ours, _ = self.server.accept()
            with socket.socket(socket.AF_UNIX) as theirs, ours:
                try:
                    theirs.connect(str(self.to))
                    self.carry(ours, theirs)
                except OSError:
                    pass

    def carry(self, ours, theirs):
        cut = time.monotonic() + random.uniform(0.01, 0.6)
        while True:
            left = min(cut - time.monotonic() if self.on else 1, 0.02)
            if left <= 0 or time.monotonic() < self.away_until:
                self.cuts += 1
                return
            ready, _, _ = select.select([ours, theirs], [], [], left)
            for s in ready:
                data = s.recv(65536)
                if not data:
                    return
                (theirs if s is ours else ours).sendall(data)


def firings(count=200):
    random.seed(int(os.environ.get("SEED", "1")))
    vm("fires", rom("w.rom"), *disk("f.raw"))
    own = Qmp(DIR / "fires.own")
    cutter = Cutter(DIR / "cut.qmp", DIR / "qmp/fires.qmp")
    cutter.start()
    daemon("--qmp", DIR / "cut.qmp", "--trust-names", "--interval", "0.5", "--limit", "1")
    until("the domain", lambda: show("fires"))
    control = Lines(DIR / "run/control.sock")
    events = Lines(DIR / "run/control.sock")
    events.say({"op": "subscribe", "domain": "fires"})
    events.take()
    seen = []

    def listen():
        while (event := events.take()) is not None:
            if event["event"] == "write_threshold":
                seen.append(event)

    threading.Thread(target=listen, daemon=True).start()
    began = time.monotonic()
    refused, unknown, set_ok = {}, [], 0
    # Each threshold differs from every other in its number of bytes.
    for number in range(1, count + 1):
        # Half of them fire while the connection is away.
        away = number % 2 == 0
        if away:
            own("stop")
        while True:
            control.say({"op": "block-threshold", "domain": "fires", "disk": "hda", "threshold": number, "flags": 0})
            answer = control.take()
            if "ok" in answer:
                set_ok += 1
                break
            code = answer["error"]["code"]
            refused[code] = refused.get(code, 0) + 1
            if code == "unknown_outcome":
                unknown.append(number)
            time.sleep(0.05)
        if away:
            cutter.away_until = time.monotonic() + random.uniform(0.05, 0.4)
            time.sleep(0.03)
            own("cont")
        else:
            time.sleep(random.uniform(0, 0.2))
        until(f"firing {number}", lambda: any(e["threshold_bytes"] == number for e in seen), 60)
    cutter.on = False
    time.sleep(3)
    own("query-status")
    theirs = [e["data"]["write-threshold"] for e in own.events if e["event"] == "BLOCK_WRITE_THRESHOLD"]
    ours = [e["threshold_bytes"] for e in seen]
    lost = [n for n in range(1, count + 1) if ours.count(n) == 0]
    lost += [n for n in set(theirs) if theirs.count(n) > ours.count(n)]
    # A request whose answer was lost is sent again, and may have fired before.
    doubled = [n for n in set(ours) if ours.count(n) > 1 + unknown.count(n)]
    counted = next(b["groups"]["extent"]["fields"]["threshold_events"] for b in show("fires")["blks"]
                   if b["groups"]["identity"].get("fields", {}).get("name") == "hda")
    print(f"{set_ok} thresholds armed, {len(ours)} events reported, {len(theirs)} emitted by QEMU "
          "to a connection that was never cut")
    print(f"{cutter.cuts} cuts of the connection in {time.monotonic() - began:.0f} s; "
          f"{sum(e['reconciled'] for e in seen)} events concluded from levels; threshold_events {counted}")
    print(f"requests to be repeated: {refused}; lost {len(lost)}, doubled {len(doubled)}")
    for number in sorted(lost + doubled):
        print("  ", number, [e for e in seen if e["threshold_bytes"] == number],
              [e for e in own.events if e.get("data", {}).get("write-threshold") == number])
    return not lost and not doubled and counted == len(ours)


def ages(names):
    found = {}
    for name in names:
        sample = show(name)
        disk = next(b["groups"] for b in sample["blks"] if "fields" in b["groups"]["identity"])
        found[name] = {
            "runstate": sample["vcpus"][0]["groups"]["runstate"]["age_ns"] / 1e9,
            "io": disk["io"]["age_ns"] / 1e9,
            "extent": disk["extent"]["age_ns"] / 1e9,
        }
    return found


def fleet(count=50):
    bios = rom("spin.rom", spin=True)
    # Most of the VMs wait; two of them do something all the time.
    halt = rom("halt.rom")
    halt.write_bytes(b"\xf4" * (64 << 10))
    names = [f"vm{i:02}" for i in range(count)]
    machines = {n: vm(n, bios if i < 2 else halt, *disk(f"{n}.raw", 1 << 20), memory=2) for i, n in enumerate(names)}
    process = daemon("--qmp-dir", DIR / "qmp")
    until("all domains", lambda: all(show(n) for n in names), 120)
    time.sleep(3)
    stopped = names[count // 2]
    machines[stopped].send_signal(signal.SIGSTOP)
    time.sleep(15)
    found = ages(names)
    machines[stopped].send_signal(signal.SIGCONT)
    others = [v for n, v in found.items() if n != stopped]
    print(f"{count} VMs at 1 Hz, {stopped} stopped for 15 s; age of the numbers in seconds")
    print("| group | stopped VM | others, median | others, oldest |\n|---|---|---|---|")
    for group in ("runstate", "io", "extent"):
        sorted_ = sorted(v[group] for v in others)
        print(f"| {group} | {found[stopped][group]:.1f} | {sorted_[len(sorted_) // 2]:.2f} | {sorted_[-1]:.2f} |")
    until("the stopped VM", lambda: ages([stopped])[stopped]["io"] < 3)
    print(f"after SIGCONT it is fresh again; the daemon: {threads(process.pid)} threads, {rss(process.pid)} KiB resident")
    return all(v["io"] < 6 for v in others) and found[stopped]["io"] > 12 and found[stopped]["runstate"] < 6


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def rss(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost(count=20):
    halt = rom("halt.rom")
    halt.write_bytes(b"\xf4" * (64 << 10))
    names = [f"vm{i:02}" for i in range(count)]
    machines = [vm(n, halt, *disk(f"{n}.raw", 1 << 20), memory=2) for n in names]
    for machine in machines:
        until("QEMU", lambda: cpu_seconds(machine.pid) > 0)
    time.sleep(3)
    span = 30
    without = sum(cpu_seconds(m.pid) for m in machines)
    time.sleep(span)
    without = sum(cpu_seconds(m.pid) for m in machines) - without
    process = daemon("--qmp-dir", DIR / "qmp")
    until("all domains", lambda: all(show(n) for n in names))
    time.sleep(3)
    ours, theirs = cpu_seconds(process.pid), sum(cpu_seconds(m.pid) for m in machines)
    time.sleep(span)
    ours, theirs = cpu_seconds(process.pid) - ours, sum(cpu_seconds(m.pid) for m in machines) - theirs
    per = 1e3 / span / count
    print(f"{count} VMs at 1 Hz for {span} s: daemon {ours * per:.3f} ms of CPU per VM and second, "
          f"each QEMU {(theirs - without) * per:.3f} ms more than without")
    return True


def reader():
    vm("read", rom("w.rom"), *disk("r.raw"))
    daemon("--qmp", DIR / "qmp/read.qmp", "--trust-names")
    until("the domain", lambda: show("read"))
    example = Path(DOMSTAT).parent / "domstat-read-loop"
    trace = DIR / "strace.txt"
    reads = 1_000_000
    out = subprocess.run(["strace", "-f", "-o", trace, example, DIR / "run/read.domstat", str(reads)],
                         capture_output=True, text=True, check=True).stdout
    lines = trace.read_text().splitlines()
    marks = [i for i, line in enumerate(lines) if "reading" in line]
    between = marks[1] - marks[0] - 1
    print(out.strip())
    print(f"system calls between the first and the last of {reads} reads: {between}")
    return between == 0


def libvirt():
    xml = f"""<domain type='{"kvm" if ACCEL == "kvm" else "qemu"}'
      xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
      <name>beside</name><memory unit='MiB'>16</memory><vcpu>2</vcpu>
      <os><type arch='x86_64' machine='pc'>hvm</type><loader type='rom'>{rom("w.rom")}</loader></os>
      <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
        <disk type='file' device='disk'><driver name='qemu' type='raw'/>
          <source file='{DIR}/l.raw'/><target dev='hda' bus='ide'/></disk>
        <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
          <source file='{DIR}/l.qcow2'/><target dev='vda' bus='virtio'/></disk>
        <memballoon model='virtio'/></devices>
      <qemu:commandline><qemu:arg value='-qmp'/>
        <qemu:arg value='unix:{DIR}/beside.qmp,server=on,wait=off'/></qemu:commandline></domain>"""
    (DIR / "l.xml").write_text(xml)
    disk("l.raw")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", DIR / "l.qcow2", "64M"], check=True)
    virsh = lambda *a: subprocess.run(["virsh", "-q", *map(str, a)], capture_output=True, text=True, check=True).stdout
    os.chmod(DIR, 0o755)
    virsh("create", DIR / "l.xml")
    try:
        daemon("--qmp", DIR / "beside.qmp", "--interval", "0.2", "--stats-interval", "0.2")
        until("the domain", lambda: show("beside"))
        domstat("block", "threshold", "beside", "vda", "50%")
        time.sleep(2)
        virsh("suspend", "beside")
        time.sleep(3)
        keys = lambda text: dict(line.strip().split("=", 1) for line in text.splitlines() if "=" in line)
        theirs, ours = keys(virsh("domstats", "beside")), keys(domstat("show", "beside", "--format", "domstats"))
    finally:
        virsh("destroy", "beside")
    print("| key | virsh domstats | domstat | |\n|---|---|---|---|")
    for key in sorted(set(theirs) | set(ours)):
        note = "" if theirs.get(key) == ours.get(key) else "only here" if key not in theirs else "not produced" if key not in ours else "differs"
        print(f"| {key} | {theirs.get(key, '-')} | {ours.get(key, '-')} | {note} |")
    exact = [k for k in theirs if re.search(r"^block.*(reqs|bytes|capacity|allocation|name)$|^balloon.(cur|max)|^vcpu.(cur|max)|^state", k)]
    return all(theirs[k] == ours.get(k) for k in exact)


main((table, firings, chains, fleet, cost, reader, libvirt), __doc__)
