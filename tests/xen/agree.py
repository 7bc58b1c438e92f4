"""What domstat, Xen's tools, sysfs and the domU itself said of the same moments (dom0/agree.sh)."""

import re

from serial import fields, generation, named, vcpu, vcpu_list

TICK = 0.11  # xl prints tenths of seconds
MOMENTS = ["booted", "worked", "paused", "paused-still", "unpaused", "three-vcpus", "one-vcpu",
           "attached", "detached", "reattached", "extended", "rebooted"]


class Run:
    """The run, with domstat's words before and after everybody else's, by moment."""

    def __init__(self, log):
        self.log = log
        self.domain = {moment: log.json(moment) for moment in MOMENTS}
        self.before = {moment: log.json(moment, "domstat-before") for moment in MOMENTS}

    def files(self, moment, prefix):
        pattern = rf"{prefix}\S*/(\w+):(\d+)"
        return {name: int(value) for name, value in re.findall(pattern, self.log.get(moment, "sysfs"))}

    def xentop_vbd(self, moment, devid):
        row = re.search(rf"VBD BlkBack +{devid} .*OO: +(\d+) +RD: +(\d+) +WR: +(\d+) +RSECT: +(\d+) +WSECT: +(\d+)",
                        self.log.get(moment, "xentop"))
        return dict(zip(["oo", "rd", "wr", "rsect", "wsect"], map(int, row.groups()))) if row else {}

    def domu_disk(self, moment, name):
        """Linux' Documentation/admin-guide/iostats: completed, merged, sectors, ms; flushes at 15."""
        row = re.search(rf"/sys/block/{name}/stat: +(.*)", self.log.get(moment, "domu"))
        words = list(map(int, row[1].split())) if row else [None] * 17
        return {"rd_req": words[0], "rd_sect": words[2], "wr_req": words[4], "wr_sect": words[6],
                "f_req": words[15]}

    def judge_disk(self, moment, name, devid, with_domu):
        disk = named(self.domain[moment], "blks", name)
        io, times, vbd = fields(disk, "io"), fields(disk, "io_times"), fields(disk, "vbd")
        if not self.log.expect(f"{moment}: {name} is shown", io and times and vbd):
            return
        sysfs, top = self.files(moment, rf"vbd-\d+-{devid}/"), self.xentop_vbd(moment, devid)
        domu = self.domu_disk(moment, name) if with_domu else None
        where = f"{moment}, {name}:"

        def row(what, value, **others):
            if domu is None:
                others.pop("domU", None)
            self.log.agree(f"{where} {what}", value, **others)

        own = domu or dict.fromkeys(["rd_req", "rd_sect", "wr_req", "wr_sect", "f_req"], 0)
        row("reads", io["rd_req"], sysfs=sysfs.get("rd_req"), xentop=top.get("rd"), domU=own["rd_req"])
        row("bytes read", io["rd_bytes"], sysfs=sysfs["rd_sect"] * 512, xentop=top["rsect"] * 512,
            domU=own["rd_sect"] * 512)
        # A write that is also a barrier or a flush is counted once by the backend and twice by Linux.
        self.log.agree(f"{where} writes", io["wr_req"], sysfs=sysfs.get("wr_req"), xentop=top.get("wr"))
        row("bytes written", io["wr_bytes"], sysfs=sysfs["wr_sect"] * 512, xentop=top["wsect"] * 512,
            domU=own["wr_sect"] * 512)
        row("flushes", times["flush_req"], sysfs=sysfs.get("f_req"), domU=own["f_req"])
        self.log.agree(f"{where} no room", vbd["oo_req"], sysfs=sysfs.get("oo_req"), xentop=top.get("oo"))
        self.log.expect(f"{where} devid", vbd["devid"] == devid and vbd["f_req"] == times["flush_req"])
        absent = [io["errs"], io["in_flight"], times["rd_total_ns"], times["wr_total_ns"]]
        self.log.expect(f"{where} what Xen does not count is not produced", absent == [None] * 4, absent)

    def judge_vcpus(self, moment):
        rows = vcpu_list(self.log.get(moment, "vcpu-list"))
        self.log.expect(f"{moment}: xl lists three vCPUs", len(rows) == 3, rows)
        for index, (_, seconds) in rows.items():
            early, late = (fields(vcpu(d[moment], index), "runstate") for d in (self.before, self.domain))
            if not self.log.expect(f"{moment}: vCPU {index} has a runstate", early and late):
                continue
            low, high = early["running_ns"] / 1e9, late["running_ns"] / 1e9
            self.log.rows.append((f"{moment}: seconds that vCPU {index} ran", f"{low:.2f}..{high:.2f}",
                             {"xl vcpu-list": seconds}))
            self.log.expect(f"{moment}: seconds that vCPU {index} ran agree",
                       low - TICK <= seconds <= high + TICK, f"{low:.2f} <= {seconds} <= {high:.2f}")
            times = [late[f"{name}_ns"] for name in ("runnable", "blocked", "offline")]
            self.log.expect(f"{moment}: times that Xen does not tell are not produced", times == [None] * 3)
            sched = fields(vcpu(self.domain[moment], index), "sched")
            self.log.expect(f"{moment}: sched says what runstate says",
                       sched and sched["time_ns"] == late["running_ns"])

    def state(self, moment, index):
        runstate = fields(vcpu(self.domain[moment], index), "runstate")
        return runstate and runstate["state"]

    def running(self, moment, index):
        return fields(vcpu(self.domain[moment], index), "runstate")["running_ns"]


def described(rows, record, group, name):
    """A field of a group that the schema describes, from `show --json --all`."""
    found = (rows or {}).get(record, {}).get(group, {}).get("fields", {}).get(name)
    return found and found["value"]


def judge_weighed(log):
    """Weight, cap, the balloon's target and the physical CPUs of vCPUs."""
    shown = log.json("weighed")
    row = re.search(r"web1 +\d+ +(\d+) +(\d+)", log.get("weighed", "xl"))
    weight, cap = (described(shown, "arch_dom", "xen", name) for name in ("weight", "cap_percent"))
    log.agree("weighed: weight", weight, xl=row and int(row[1]))
    log.agree("weighed: cap", cap, xl=row and int(row[2]))
    log.expect("weighed: both were changed", (weight, cap) == (512, 50), (weight, cap))
    target = log.get("weighed", "target").strip()
    log.agree("weighed: the balloon's target", described(shown, "arch_dom", "xen", "target_bytes"),
              xenstore=target.isdigit() and int(target) * 1024)
    # A vCPU may move between two looks: xl's is one of those before and after it.
    looks = [shown, log.json("weighed", "domstat-after")]
    for index, cpu in re.findall(r"web1 +\d+ +(\d+) +(\d+) ", log.get("weighed", "vcpu-list")):
        seen = [described(look, f"arch_vcpu[{index}]", "xen", "pcpu") for look in looks]
        log.expect(f"weighed: vCPU {index}'s physical CPU", int(cpu) in seen, (cpu, seen))


def judge_other_disks(run):
    """More disks than slots, and disks that xen-blkback does not serve."""
    log = run.log
    many = log.json("many")
    listed = {int(n) for n in re.findall(r"vbd-\d+-(\d+)", log.get("many", "sysfs"))}
    disks = {fields(disk, "vbd")["devid"] for disk in (many or {}).get("blks", []) if fields(disk, "vbd")}
    log.expect("many: every disk is shown", len(listed) == 13 and disks == listed, sorted(disks))
    others = log.json("others")
    tapdisk, silent, qdisk = (named(others, "blks", name) for name in ("xvdc", "xvdd", "xvdo"))
    io, times = fields(tapdisk, "io"), fields(tapdisk, "io_times")
    if log.expect("tapdisk: its disk has counters", io and times):
        expected = {"rd_req": 40, "rd_bytes": 40 * 4096, "wr_req": 30, "wr_bytes": 30 * 4096, "errs": 3, "in_flight": 1}
        log.expect("tapdisk: they are its file's", io == expected, io)
        log.expect("tapdisk: times", (times["rd_total_ns"], times["wr_total_ns"]) == (10_000_000, 7_500_000), times)
    for name, disk in (("tapdisk without a file", silent), ("qdisk", qdisk)):
        log.expect(f"{name}: it is shown without counters", disk and fields(disk, "io") is None
                   and fields(disk, "vbd")["oo_req"] is None, disk)
    for moment in ("many", "others"):
        log.expect(f"{moment}: the checker finds no rule broken", log.codes.get((moment, "check")) == 0,
                   log.get(moment, "check").strip().split("\n")[-1])


def judge(log):
    run = Run(log)

    # dom0 itself.
    dom0 = log.json("dom0")
    log.expect("dom0 is shown", dom0 and dom0["domid"] == 0 and dom0["name"] == "Domain-0")
    log.agree("dom0: MiB", fields(dom0, "memory")["current_bytes"] >> 20,
              xl=int(re.search(r"Domain-0 +0 +(\d+)", log.get("dom0", "xl-list"))[1]))

    for moment in MOMENTS:
        if log.expect(f"{moment}: web1 is shown", run.domain[moment] and run.before[moment]):
            row = re.search(r"web1 +(\d+) +(\d+) +(\d+) +(\S+) +([\d.]+)", log.get(moment, "xl-list"))
            log.agree(f"{moment}: domid", run.domain[moment]["domid"], xl=row and int(row[1]))
            log.agree(f"{moment}: MiB", fields(run.domain[moment], "memory")["current_bytes"] >> 20,
                      xl=row and int(row[2]))
            low, high = (fields(d[moment], "cpu")["time_ns"] / 1e9 for d in (run.before, run.domain))
            log.expect(f"{moment}: the domain's seconds agree",
                       row and low - TICK <= float(row[5]) <= high + TICK, row and row[5])
            run.judge_vcpus(moment)
            run.judge_disk(moment, "xvda", 51712, moment == "worked")

    net = fields(named(run.domain["worked"], "nets", "vif1.0"), "io")
    vif = run.files("worked", r"vif-1-0/net/vif1.0/statistics")
    log.expect("worked: the interface is shown", net)
    # The host's directions are the domain's turned around.
    for own, host in (("rx", "tx"), ("tx", "rx")):
        for ours, theirs in (("bytes", "bytes"), ("packets", "packets"), ("errs", "errors"), ("drop", "dropped")):
            log.agree(f"worked, vif1.0: {own}_{ours}", net[f"{own}_{ours}"], sysfs=vif[f"{host}_{theirs}"])
    eth = dict(re.findall(r"eth0/statistics/(\w+):(\d+)", log.get("worked", "domu")))
    for key in ("rx_packets", "tx_packets"):
        log.agree(f"worked, vif1.0: {key} of eth0", net[key], domU=int(eth[key]))
    # netback counts what it receives without the Ethernet header of 14 bytes.
    log.within("worked, vif1.0: bytes of eth0", net["tx_bytes"], 14 * net["tx_packets"],
               domU=int(eth["tx_bytes"]))

    log.expect("pause: a vCPU that wants to run is offline", "offline" in [run.state("paused", i) for i in (0, 1)],
               [run.state("paused", i) for i in range(3)])
    log.expect("pause: nothing runs", all(run.running("paused", i) == run.running("paused-still", i) for i in range(3)))
    log.expect("unpause: it runs again", run.running("unpaused", 0) + run.running("unpaused", 1)
               > run.running("paused-still", 0) + run.running("paused-still", 1))
    log.expect("vcpu-set 3: vCPU 2 is online",
               run.state("booted", 2) == "offline" and run.state("three-vcpus", 2) != "offline",
               (run.state("booted", 2), run.state("three-vcpus", 2)))
    log.expect("vcpu-set 1: two are offline", [run.state("one-vcpu", i) for i in (1, 2)] == ["offline"] * 2)

    # The disk with sectors of 4096 bytes.
    sizes = dict(re.findall(r"queue/(\w+)_block_size:(\d+)", log.get("attached", "domu")))
    log.expect("attached: the domU sees sectors of 4096 bytes",
               sizes.get("logical") == "4096" and sizes.get("physical") == "4096", sizes)
    run.judge_disk("attached", "xvdb", 51728, True)
    log.expect("detached: xvdb is not shown", named(run.domain["detached"], "blks", "xvdb") is None)
    again, first = (named(run.domain[m], "blks", "xvdb") for m in ("reattached", "attached"))
    if log.expect("reattached: xvdb is shown", again and first):
        log.expect("reattached: it is a new one in its slot",
                   again["index"] == first["index"] and generation(again, "io") > generation(first, "io"),
                   (generation(first, "io"), generation(again, "io")))
        log.expect("reattached: it counts from zero",
                   fields(again, "io")["rd_bytes"] < fields(first, "io")["rd_bytes"])
        log.agree("reattached, xvdb: bytes read", fields(again, "io")["rd_bytes"],
                  sysfs=run.files("reattached", r"vbd-\d+-51728/")["rd_sect"] * 512)
    xvdq = named(run.domain["extended"], "blks", "xvdq")
    log.expect("extended: libxl's number for xvdq is ours", xvdq and fields(xvdq, "vbd")["devid"] == 268439552)
    log.expect("the checker finds no rule broken", log.codes.get(("extended", "check")) == 0,
               log.get("extended", "check").strip().split("\n")[-1])

    for moment in MOMENTS:
        paused = moment.startswith("paused")
        status = fields(run.domain[moment], "status")
        log.expect(f"{moment}: the domain's state", status and status["state"] == ("paused" if paused else "running"),
                   status)
    judge_weighed(log)
    judge_other_disks(run)
    renamed = log.json("renamed", "ls")
    names = [domain["name"] for domain in renamed or []]
    log.expect("rename: it is shown under its new name alone", sorted(names) == ["Domain-0", "web2"], names)
    log.expect("rename: it is the same domain", log.json("renamed")
               and log.json("renamed")["incarnation"] != run.domain["rebooted"]["incarnation"]
               and log.json("renamed")["uuid"] == run.domain["rebooted"]["uuid"])

    old, new = run.domain["extended"], run.domain["rebooted"]
    log.expect("reboot: a new domain of the same name", old["incarnation"] != new["incarnation"]
               and new["domid"] > old["domid"] and new["name"] == "web1", (old["domid"], new["domid"]))
    watch = log.json("destroyed", "watch")
    log.expect("destroy: who watches sees the end",
               watch and watch["state"] == "retired" and "@watch-ended 0" in log.text)
    log.expect("destroy: nothing is left", log.codes.get(("destroyed", "show")) == 3
               and "web1" not in log.get("destroyed", "ls") and "Domain-0" in log.get("destroyed", "ls"))
    log.expect("run xen ends when asked", "@run-ended 0" in log.text,
               log.get("destroyed", "run").strip().split("\n")[-1])
