#!/usr/bin/env python3
"""Measures `domstat run libvirt` with a real libvirtd and prints what docs/libvirt.md shows.

    ci/libvirt.sh exec tools/libvirt-figures.py keys [N]      keys of N domains next to `virsh domstats`
    ci/libvirt.sh exec tools/libvirt-figures.py firings [N [VMS]]  N thresholds of VMS domains (10), across restarts of
                                                              libvirtd and domstat
    ci/libvirt.sh exec tools/libvirt-figures.py stuck [N]     N domains, one of them stopped (SIGSTOP)
    ci/libvirt.sh exec tools/libvirt-figures.py cost [N]      CPU time per VM and second, and the numbers' age:
                                                              run libvirt, run qemu, prometheus-libvirt-exporter

DOMSTAT is the command to measure, built with the feature libvirt (default: target/release/domstat). Exits with 1 if
what was promised is not what was seen.
"""
import collections
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOMSTAT = os.environ.get("DOMSTAT", str(ROOT / "target/release/domstat"))
DIR = Path(tempfile.mkdtemp(prefix="domstat-libvirt-"))
RUN = DIR / "run"
ENV = dict(os.environ, DOMSTAT_DIR=str(RUN))
STARTED = []
SIZE = 64 << 20


def start(*args, **kw):
    process = subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL, **kw)
    STARTED.append(process)
    return process


def stop(process, how=signal.SIGTERM):
    process.send_signal(how)
    process.wait()
    STARTED.remove(process)


def until(what, ready, limit=60):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            found = ready()
        except (subprocess.CalledProcessError, OSError, ValueError):
            found = None
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit(f"waited too long for {what}")


def virsh(*args, check=True, timeout=None):
    command = ["virsh", "-q", "-c", "qemu:///system", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=timeout).stdout


def domstat(*args, check=True):
    return subprocess.run([DOMSTAT, *args], env=ENV, capture_output=True, text=True, check=check).stdout


def show(name):
    return json.loads(domstat("show", name, "--json"))


def libvirtd():
    # Not the pid file of a libvirtd of the host.
    process = start("/usr/sbin/libvirtd", "--pid-file", DIR / "libvirtd.pid", stdout=subprocess.DEVNULL,
                    stderr=open(DIR / "libvirtd.log", "w"))
    until("libvirtd", lambda: virsh("list") or True)
    return process


def daemon(*args, to=None):
    log = open(DIR / "daemon.log", "a")
    process = start(DOMSTAT, "run", *(args or ["libvirt"]), env=to or ENV, stderr=log)
    until("the control socket", answers)
    return process


def answers():
    """Whether a daemon listens at the control socket, which one that was killed leaves behind."""
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(RUN / "control.sock"))
    return True


def create(name, memory=16, vcpus=2, spin=False):
    """A VM whose CPUs halt at once (or spin), with two disks, a tap where the host has them, and a QMP socket."""
    rom = DIR / f"{name}.rom"
    image = bytearray(b"\xf4" * (64 << 10))
    image[0xFFF0:0xFFF3] = b"\xeb\xfe\xf4" if spin else b"\xfa\xf4\xf4"
    rom.write_bytes(image)
    disks = ""
    for dev in ("vda", "vdc"):
        path = DIR / f"{name}-{dev}.raw"
        with open(path, "wb") as file:
            file.truncate(SIZE)
        disks += (f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{path}'/>"
                  f"<target dev='{dev}' bus='virtio'/></disk>")
    tap = "<interface type='ethernet'><model type='virtio'/></interface>" if os.path.exists("/dev/net/tun") else ""
    xml = DIR / f"{name}.xml"
    xml.write_text(f"""<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
      <name>{name}</name><memory unit='MiB'>{memory}</memory><vcpu>{vcpus}</vcpu><iothreads>1</iothreads>
      <os><type arch='x86_64' machine='pc'>hvm</type><loader type='rom'>{rom}</loader></os>
      <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{disks}
        <disk type='file' device='cdrom'><target dev='hda' bus='ide'/><readonly/></disk>{tap}
        <memballoon model='virtio'><stats period='2'/></memballoon></devices>
      <qemu:commandline><qemu:arg value='-qmp'/>
        <qemu:arg value='unix:{DIR}/{name}.qmp,server=on,wait=off'/></qemu:commandline></domain>""")
    virsh("create", xml)
    return int(Path(f"/run/libvirt/qemu/{name}.pid").read_text())


class Qmp:
    """The VM's second QMP socket, which needs no libvirtd."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(DIR / f"{name}.qmp"))
        self.file = self.socket.makefile("r")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self.file.readline())
            if "return" in answer or "error" in answer:
                return answer

    def write(self, disk, offset):
        """Has disk 0 (vda) or 1 (vdc) write 64 KiB."""
        device = f"/machine/peripheral/virtio-disk{disk * 2}/virtio-backend"
        self("human-monitor-command", command_line=f'qemu-io -d {device} "write {offset} 64k"')


def keys_of(text):
    return dict(line.strip().split("=", 1) for line in text.splitlines() if "=" in line)


def kind(key):
    return re.sub(r"\.\d+\.", ".N.", key)


def keys(count=10):
    names = [f"lv{i}" for i in range(count)]
    for i, name in enumerate(names):
        create(name, spin=i % 3 == 0)
    for name in names:
        qmp = Qmp(name)
        for offset in range(0, 4 << 20, 1 << 20):
            qmp.write(0, offset)
    process = daemon()
    virsh("snapshot-create-as", names[0], "s", "--disk-only", "--no-metadata", "--diskspec", "vda,snapshot=external",
          "--diskspec", "vdc,snapshot=no")
    for name in names:
        until(name, lambda: show(name))
        domstat("block", "threshold", name, "vdc", "50%")
        # What moves all the time is compared while it does not.
        virsh("suspend", name)
    time.sleep(8)
    total, same = 0, 0
    differs, missing, more = (collections.defaultdict(list) for _ in range(3))
    for name in names:
        theirs = keys_of(virsh("domstats", "--backing", name))
        ours = keys_of(domstat("show", name, "--format", "domstats", "--backing"))
        total += len(theirs)
        for key, value in theirs.items():
            if key not in ours:
                missing[kind(key)].append(key)
            elif ours[key] != value:
                differs[kind(key)].append((name, key, value, ours[key]))
            else:
                same += 1
        for key in ours.keys() - theirs.keys():
            more[kind(key)].append(key)
    print(f"{count} domains: {total} keys of libvirt, {same} with the same value")
    for key, seen in sorted(differs.items()):
        print(f"  differs {len(seen)}: {key}, for example {seen[0]}")
    for key, seen in sorted(missing.items()):
        print(f"  only in libvirt {len(seen)}: {key}")
    for key, seen in sorted(more.items()):
        print(f"  only in domstat {len(seen)}: {key}")
    moves = {"vcpu.N.time", "cpu.time", "cpu.user", "cpu.system", "balloon.rss", "vcpu.N.delay"}
    left_out = {"block.N.path", "block.N.backingIndex", "vcpu.N.wait", "cpu.cache.monitor.count", "balloon.last-update",
                "cpu.haltpoll.success.time", "cpu.haltpoll.fail.time"}
    stop(process, signal.SIGINT)
    return set(differs) <= moves | {"vcpu.N.state"} and set(missing) <= left_out and not more


class Events:
    """What a subscriber gets, across restarts of the daemon."""

    def __init__(self):
        self.path = DIR / "events.json"
        self.path.touch()
        self.follow()

    def follow(self):
        said = open(DIR / "events.said", "w")
        self.process = start(DOMSTAT, "events", "--json", env=ENV, stdout=open(self.path, "a"), stderr=said)
        until("the subscription", lambda: "waiting" in (DIR / "events.said").read_text())

    def firings(self):
        lines = [json.loads(line) for line in self.path.read_text().splitlines() if line.endswith("}")]
        return [e for e in lines if e.get("event") == "write_threshold"]


def firings(count=50, vms=10):
    server = STARTED[0]
    names = [f"lv{i}" for i in range(vms)]
    for name in names:
        create(name)
    qmps = {name: Qmp(name) for name in names}
    process = daemon()
    for name in names:
        until(name, lambda: show(name))
    events = Events()
    rng = random.Random(1)
    expected = collections.Counter()
    restarts = collections.Counter()
    for n in range(count):
        name, disk = rng.choice(names), rng.randrange(2)
        threshold = (1 << 20) + n * (1 << 19)
        dev = ("vda", "vdc")[disk]
        until("arming", lambda: domstat("block", "threshold", name, dev, str(threshold)) or True)
        how = n % 4
        if how == 1:
            # libvirtd is down while it fires.
            stop(server)
            qmps[name].write(disk, threshold)
            server = libvirtd()
            restarts["libvirtd"] += 1
        elif how == 2:
            # The daemon is killed while it is armed.
            stop(process, signal.SIGKILL)
            stop(events.process)
            if n % 8 == 2:
                qmps[name].write(disk, threshold)
                process = daemon()
                events.follow()
            else:
                process = daemon()
                events.follow()
                qmps[name].write(disk, threshold)
            restarts["domstat"] += 1
        elif how == 3:
            # libvirtd restarts about when it fires.
            server.send_signal(signal.SIGTERM)
            time.sleep(rng.random() / 2)
            qmps[name].write(disk, threshold)
            server.wait()
            server = libvirtd()
            restarts["libvirtd"] += 1
        else:
            qmps[name].write(disk, threshold)
        expected[(name, dev, threshold)] += 1
        until(f"firing {n}", lambda: len(events.firings()) >= n + 1)
        until("libvirt", lambda: all("disconnected" not in domstat("block", "list", x) for x in names))
    time.sleep(5)
    seen = collections.Counter((e["domain"], e["disk"], e["threshold_bytes"]) for e in events.firings())
    lost = sum((expected - seen).values())
    doubled = sum((seen - expected).values())
    reconciled = sum(1 for e in events.firings() if e["reconciled"])
    print(f"{count} armed on {vms} VMs and fired, {restarts['libvirtd']} restarts of libvirtd and {restarts['domstat']} of domstat: "
          f"{sum(seen.values())} delivered ({reconciled} reconciled), {lost} lost, {doubled} doubled")
    return lost == 0 and doubled == 0


def ages(names):
    """Seconds since disks and runstates were read, of each domain."""
    found = {}
    for name in names:
        sample = show(name)
        io = sample["blks"][0]["groups"]["io"]["age_ns"] / 1e9
        found[name] = (io, sample["vcpus"][0]["groups"]["runstate"]["age_ns"] / 1e9)
    return found


def stuck(count=10):
    names = [f"lv{i}" for i in range(count)]
    pids = {name: create(name) for name in names}
    process = daemon()
    for name in names:
        until(name, lambda: show(name))
    time.sleep(3)
    os.kill(pids[names[0]], signal.SIGSTOP)
    asked = subprocess.Popen(["virsh", "-c", "qemu:///system", "domstats"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    began, oldest, own = time.monotonic(), 0.0, (0.0, 0.0)
    hung = None
    while time.monotonic() < began + 15:
        seen = ages(names)
        own = seen.pop(names[0])
        oldest = max([oldest] + [io for io, _ in seen.values()])
        if hung is None and asked.poll() is not None:
            hung = time.monotonic() - began
        time.sleep(0.2)
    end = time.monotonic()
    stop(process, signal.SIGINT)
    ended = time.monotonic() - end
    os.kill(pids[names[0]], signal.SIGCONT)
    asked.wait()
    print(f"one of {count} VMs stopped for 15 s: disks of the others at most {oldest:.2f} s old, its own {own[0]:.1f} s, "
          f"its runstate {own[1]:.2f} s; `virsh domstats` {'hung for all of it' if hung is None else f'answered after {hung:.1f} s'}; the daemon ended "
          f"within {ended:.2f} s of SIGINT")
    return oldest < 3.0


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost(count=10):
    names = [f"lv{i}" for i in range(count)]
    pids = [create(name, memory=2) for name in names]
    server = STARTED[0].pid
    span = 15

    def measured(what, of, work=lambda: time.sleep(span)):
        before = [sum(map(cpu_seconds, group)) for group in (of, [server], pids)]
        begin = time.monotonic()
        work()
        took = time.monotonic() - begin
        after = [sum(map(cpu_seconds, group)) for group in (of, [server], pids)]
        own, daemon_, vms = ((b - a) * 1e3 / took / count for a, b in zip(before, after))
        print(f"| {what} | {own:.2f} | {daemon_:.2f} | {vms:.2f} | ", end="")
        return vms

    def aged():
        """The median age of a disk's numbers, and the oldest, at 10 moments."""
        seen = [io for _ in range(10) for io, _ in (time.sleep(0.13) or ages(names)).values()]
        print(f"{sorted(seen)[len(seen) // 2]:.2f} s, at most {max(seen):.2f} s |")

    print(f"| {count} VMs, ms of CPU per VM and second | itself | libvirtd | each QEMU | age of disks' numbers |")
    print("|---|---|---|---|---|")
    time.sleep(3)
    measured("nobody", [])
    print("|")
    for source in (["libvirt"], ["qemu", *(f"--qmp={DIR}/{name}.qmp" for name in names)]):
        process = daemon(*source)
        for name in names:
            until(name, lambda: show(name))
        time.sleep(3)
        measured(f"`run {source[0]}`, every second", [process.pid])
        aged()
        stop(process, signal.SIGINT)
    exporter = start("prometheus-libvirt-exporter", "--web.listen-address=127.0.0.1:9177",
                     "--libvirt.uri=qemu:///system", stderr=open(DIR / "exporter.log", "w"))
    scrape = lambda: urllib.request.urlopen("http://127.0.0.1:9177/metrics").read()
    until("the exporter", scrape)

    def scrapes():
        end = time.monotonic() + span
        times = []
        while (begin := time.monotonic()) < end:
            scrape()
            times.append(time.monotonic() - begin)
            time.sleep(max(0.0, 1.0 - times[-1]))
        scrapes.took = sorted(times)[len(times) // 2]

    measured("prometheus-libvirt-exporter, scraped every second", [exporter.pid], scrapes)
    print(f"those of the scrape, which takes {scrapes.took * 1e3:.0f} ms |")
    return True


def main():
    verbs = {f.__name__: f for f in (keys, firings, stuck, cost)}
    if len(sys.argv) < 2 or sys.argv[1] not in verbs or os.environ.get("DOMSTAT_LIBVIRT") != "private":
        raise SystemExit(__doc__)
    RUN.mkdir()
    kept = True
    try:
        libvirtd()
        kept = verbs[sys.argv[1]](*map(int, sys.argv[2:4]))
    finally:
        for name in virsh("list", "--name", check=False).split():
            pid = Path(f"/run/libvirt/qemu/{name}.pid")
            if pid.exists():
                os.kill(int(pid.read_text()), signal.SIGKILL)
        for process in reversed(STARTED):
            process.kill()
            process.wait()
    raise SystemExit(0 if kept else 1)


main()
