"""Regions that every reader reads."""

from describe import add, arch, fill, small, table_only, whole
from model import (CONSTANTS, HEADER_KINDS, LARGEST, NOT_PRODUCED, PAGE, SATURATED, Group, Record, Region,
                   described, groups_of, roundup)


# Rules of the checker that a region breaks although it is good for a reader: a writer that stopped, numbers
# that are not registered.
RULES = {
    "stalled": "I16", "twin-of-runstate": "I16", "twin-of-runstate-busy": "I16", "twin-of-sched": "I16",
    "twin-of-sched-busy": "I16", "twin-of-io": "I16", "twin-of-io-busy": "I16", "twins-both-busy": "I16",
    "twin-that-is-not-there": "I16", "share-that-is-given-out": "I16",
    "share-that-is-stalled": "I16", "revision-0": "I11 I12",
    "unknown-field-kinds": "I22", "unknown-clock": "I22", "unknown-state": "I22",
    "shares-of-devices-that-are-not-there": "I30",
}


def vector(name, what, clauses, region, **options):
    fill(region)
    return finished(name, what, clauses, region, **options)


def finished(name, what, clauses, region, **options):
    return {"name": name, "what": what, "verdict": "read", "clauses": clauses.split(),
            "rules": RULES.get(name, "").split(),
            "answers": region.answers(**options), "bytes": region.bytes()}


def vectors():
    yield from revisions()
    yield from placements()
    yield from words()
    yield from activity()
    yield from twins()
    yield from lengths()
    yield from unknown()
    yield from schemas()
    yield from shares()
    yield from distributions()
    yield from life()


def revisions():
    for revision in range(1, 6):
        for pages in (False, True):
            name = "pages" if pages else "packed"
            region = small(revision, pages=pages) if revision < 4 else whole(revision, pages=pages)
            clauses = "LA-1 LA-3 LA-21 RD-6 RD-7 RD-17 RV-5" + (" LA-20" if revision >= 4 else "")
            yield vector(f"r{revision}-{name}", f"all of revision {revision}, {name}", clauses, region)


def placements():
    for align in (8, 128, 1024):
        yield vector(f"align-{align}", f"packed, aligned to {align} bytes", "LA-21 RD-5", small(align=align))
    region = small(3, align=64)
    region.stride = {"vcpu": PAGE, "blk": PAGE}
    region.offs = {"vcpu": PAGE}
    yield vector("pages-with-a-small-align", "whole pages, although the header promises 64 bytes",
                 "LA-21 RD-7", region)
    region = small(2)
    region.offs = {"blk": 1024, "vcpu": 2048}
    yield vector("devices-before-vcpus", "the blk array lies before the vcpu array", "LA-21 LA-9", region)
    region = small(1)
    region.stride = {"vcpu": 320}
    yield vector("a-larger-stride", "records are farther apart than they are long", "RD-7 RD-16", region)
    region = Region(1, vcpu=9)
    yield vector("nine-vcpus", "more vCPUs than a byte has bits", "RD-7", region)
    region = small(5)
    region.length = 5 * PAGE
    yield vector("pages-behind-the-last-part", "the region is longer than its parts", "RD-16", region)
    region = small(1)
    region.length = roundup(region.plan()[1], 64)
    yield vector("not-a-whole-page", "the region ends with its last record", "LA-7 RD-4", region)


def one(kind, group, **fields):
    """A region of revision 5 with other values of a group of record 0."""
    region = fill(small())
    region.records[kind][0].groups[group].fields.update(fields)
    return region


def words():
    numbers = {"zero": 0, "largest": LARGEST, "2-to-the-63": 2**63, "2-to-the-53-plus-1": 2**53 + 1,
               "32-bits": 2**32 - 1, "saturated": SATURATED, "not-produced": NOT_PRODUCED}
    for name, number in numbers.items():
        region = one("net", "io", rx_bytes=number, tx_drop=number)
        yield finished(f"word-{name}", f"a counter that is {name}", "LA-16 RD-14 RD-15", region)
    region = fill(small())
    for kind in HEADER_KINDS:
        for record in region.records[kind]:
            for group in record.groups.values():
                group.fields = {name: None for name in group.fields}
    yield finished("nothing-produced", "every group is active, no field of it is produced",
                   "LA-16 LA-17 RD-14", region)
    region = one("dom", "memory", current_bytes=0, maximum_bytes=None, rss_bytes=SATURATED, unused_bytes=LARGEST)
    region.records["dom"][0].groups["cpu"].active = False
    region.records["dom"][0].groups["cpu"].seq = 3
    yield finished("four-answers", "zero, not produced, saturated and not active in one record", "RD-14", region)
    for name, text in {"empty": "", "longest": "n" * 127, "utf-8": "dömäin-✓", "controls": "a\x1b[31mb\nc"}.items():
        yield finished(f"text-{name}", f"a name that is {name}", "LA-17 RD-24", one("dom", "identity", name=text))
    yield finished("text-and-what-follows", "bytes after the zero byte say nothing", "LA-17",
                   one("dom", "identity", name=b"web1\0left over"))


def activity():
    region = fill(small())
    for kind in HEADER_KINDS:
        for record in region.records[kind]:
            for group in record.groups.values():
                group.active, group.seq = False, 3
    yield finished("no-group-active", "every bit is clear, every seq is odd", "RD-6 RD-11 WR-7", region)
    region = small()
    yield finished("no-group-written", "every bit is clear, every seq is 0", "RD-6 RD-11 WR-7", region)
    for bit, desc in enumerate(groups_of(5, "dom").values()):
        if bit in (0, 3, 9):
            region = fill(small())
            for name, group in region.records["dom"][0].groups.items():
                if name != desc["name"]:
                    group.active, group.seq = False, 5
            yield finished(f"only-dom-{desc['name']}", f"of the dom record only {desc['name']} is active",
                           "RD-6 LA-14", region)
    region = fill(small())
    region.records["vcpu"][1].groups["sched"].seq = 2**32 - 2
    region.records["vcpu"][0].groups["exits"].seq = 2**31
    yield finished("large-seq", "seq is even and near its end", "RD-8", region)
    region = fill(small())
    region.records["vcpu"][1].groups["exits"].seq = 7
    region.records["dom"][0].groups["memory"].seq = 9
    yield finished("stalled", "two groups are in mid-update, all others are whole", "RD-12 SE-1", region)
    region = fill(small())
    region.records["vcpu"][0].generation = 3
    region.records["blk"][0].generation = 2**32 - 1
    yield finished("generations", "slots that were given to others before", "RD-10 WR-15", region)
    region = small(vcpu=3, blk=3)
    fill(region)
    region.records["vcpu"][2] = Record({})
    region.records["blk"][1] = Record({})
    yield finished("empty-slots", "records that nothing has yet", "RD-6", region)


def twins():
    def region(first_seq, twin_seq, twin_active=True, kind="vcpu", group="runstate"):
        made = fill(small())
        groups = made.records[kind][0].groups
        groups[group].seq = first_seq
        twin = groups[group + "_twin"]
        twin.seq, twin.active = twin_seq, twin_active
        # The write before.
        twin.updated -= 0 if first_seq % 2 == 0 else 1
        return made

    for kind, group in (("vcpu", "runstate"), ("vcpu", "sched"), ("blk", "io")):
        yield finished(f"twin-of-{group}", f"the first copy of {group} is busy, the second is whole",
                       "LA-22 RD-13", region(5, 4, kind=kind, group=group))
        yield finished(f"twin-of-{group}-busy", f"the second copy of {group} is busy, the first is whole",
                       "LA-22 RD-13", region(6, 5, kind=kind, group=group))
    yield finished("twins-both-busy", "both copies are in mid-update", "RD-12 RD-13", region(5, 7))
    made = region(5, 4)
    made.size["vcpu"] = groups_of(5, "vcpu")["runstate_twin"]["offset"]
    for record in made.records["vcpu"]:
        for name in ("runstate_twin", "sched_twin"):
            del record.groups[name]
    yield finished("twin-that-is-not-there", "the record ends before the twin; the first copy is busy",
                   "RD-13 RD-12", made)


def lengths():
    region = Region(1, vcpu=1)
    region.size = {"dom": 128, "vcpu": 32}
    yield finished("headers-only", "records without any group", "RD-6 LA-5", region)
    for revision in (1, 2, 3, 4):
        region = small(revision)
        region.revision = revision
        fill(region)
        region.words["revision"] = 5
        yield finished(f"r{revision}-that-says-5", "the sizes of an older revision, and a newer number",
                       "RD-17 RD-6", region)
    region = fill(small(5))
    region.words["revision"] = 0
    yield finished("revision-0", "a revision that there is not", "RD-17", region)
    region = fill(small(5))
    region.words["revision"] = 2**32 - 1
    yield finished("revision-of-the-future", "the largest number", "RD-17 RD-16", region)


def unknown():
    region = fill(small(revision=5))
    for kind in HEADER_KINDS:
        region.size[kind] = region.size_of(kind) + 64
    for kind in HEADER_KINDS:
        for record in region.records[kind]:
            record.bits |= 1 << 40 | 1 << 63
    region.words["revision"] = 9
    yield finished("unknown-bits", "bits and longer records of a later revision", "RD-16", region)
    region = fill(small(revision=5))
    region.size["vcpu"] = 336 + 320
    arrays = region.plan()[0]
    later = b"\x02\0\0\0" + b"\0" * 4 + b"\x11" * 72
    region.patches.append((arrays["vcpu"][0] + 336, later))
    region.records["vcpu"][0].bits |= 1 << 5
    region.words["revision"] = 6
    yield finished("unknown-group", "a group that revision 5 does not have", "RD-16", region)
    region = fill(small(4))
    region.schema = "full"
    region.lens = (40, 48, 56)
    region.groups["arch_dom"] = {}
    arch(region, "arch_dom")
    yield vector("longer-schema-entries", "entries of the schema are longer than any that is known", "SC-1 RD-16",
                 region)
    region = fill(table_only(labels=1))
    at = roundup(region.plan()[1] + 4096, PAGE)
    region.extra_entries = [(14, "host", at, 64, 64, 3), (200, "later", at + 512, 32, 32, 1)]
    region.length = at + PAGE
    yield finished("unknown-kinds", "kinds of records that are not registered yet", "SC-10 RD-16", region)
    region = small(4)
    region.schema = "full"
    arch(region, "arch_dom")
    region.groups["arch_dom"] = {"own": described("own", [
        {"name": "temperature", "kind": 200, "unit": 300},
        {"name": "level", "kind": "instant", "unit": "bytes", "exponent": 10, "base": 2}])}
    yield vector("unknown-field-kinds", "a kind of field and a unit that are not registered yet", "RD-16 SC-11",
                 region)
    region = fill(small(5))
    region.clock = 99
    yield finished("unknown-clock", "a clock that is not registered", "RD-5 RD-16", region)
    region = fill(small(5))
    region.words["state"] = 7
    yield finished("unknown-state", "a state of the region that is not registered", "RD-5 RD-16", region)


def schemas():
    region = whole(4)
    region.schema = "table"
    region.groups = {}
    for kind in ("arch_dom", "arch_vcpu"):
        region.records.pop(kind)
    yield vector("schema-as-short-as-its-table", "no groups, fields or strings", "SC-4", region)
    region = small(4)
    region.schema = "full"
    arch(region, "arch_vcpu")
    region.groups["arch_vcpu"] = {"kvm": described("kvm", [
        {"name": "halt_poll", "kind": "linear_histogram", "unit": "ns", "words": 8, "bucket_size": 500},
        {"name": "waits", "kind": "log_histogram", "unit": "ns", "words": 12},
        {"name": "mode", "kind": "state", "unit": "-", "states": ["idle", "busy", "halted"]},
        {"name": "longest", "kind": "peak", "unit": "ns"}])}
    yield vector("arch-slots-of-every-kind", "histograms, a state and a peak that only the schema describes",
                 "LA-20 SC-2 SC-3", region)
    region = small(4)
    arch(region, "arch_dom")
    region.schema = "full"
    fill(region)
    slot = region.records["arch_dom"][0].groups["kvm"]
    slot.active, slot.seq = False, 1
    yield finished("arch-slot-not-active", "a described group that is not active", "RD-11 LA-20", region)
    region.records["arch_dom"][0].groups["kvm"] = Group({"exits": 1}, seq=3)
    yield finished("arch-slot-stalled", "a described group in mid-update", "RD-12 LA-20", region)
    region = small(5)
    region.schema = "full"
    region.private = [(0x80000001, "accelerator")]
    region.records["accelerator"] = [Record({}), Record({})]
    region.groups["accelerator"] = {"work": described("work", [{"name": "jobs"}])}
    yield vector("private-kind", "a kind of records of one's own", "SC-11 RV-6", region)
    region = fill(table_only(vcpu_hist=2, labels=1))
    region.stride = {"vcpu": 1024}
    vcpus = region.plan()[0]["vcpu"]
    region.offs = {"vcpu_hist": vcpus[0] + 384}
    region.stride["vcpu_hist"] = 1024
    yield finished("distributions-in-the-frames-of-vcpus", "two kinds in windows of one stride", "SC-8", region)


def with_shares(**numbers):
    return fill(table_only(blk_queue=3, **numbers))


def shares():
    region = with_shares()
    yield finished("shares", "three writers of one device", "LA-24 RD-19 SH-1", region)
    region = with_shares()
    io = region.records["blk_queue"][1].groups["io"].fields
    io["rd_req"], io["wr_bytes"] = None, SATURATED
    io["errs"] = LARGEST - 10
    yield finished("shares-that-lack-a-word", "not produced, saturated, and a sum without room", "SH-2 RD-19", region)
    region = with_shares()
    first, second, _ = region.records["blk_queue"]
    first.groups["io"].fields["errs"], second.groups["io"].fields["errs"] = SATURATED, None
    yield finished("shares-saturated-and-not-produced", "not produced counts before saturated", "SH-2", region)
    region = with_shares()
    region.records["blk_queue"][2].groups["io"].active = False
    region.records["blk_queue"][2].groups["io"].seq = 3
    for record in region.records["blk_queue"]:
        record.groups["queue"].active, record.groups["queue"].seq = False, 3
    yield finished("shares-that-lack-a-group", "one lacks io, all lack queue", "SH-3", region)
    region = with_shares()
    region.records["blk"][0].generation = 4
    region.records["blk_queue"][0].groups["of"].fields["generation"] = 4
    yield finished("shares-of-a-former-device", "two of three are of an earlier generation", "LA-24 RD-19", region)
    region = with_shares()
    for record in region.records["blk_queue"]:
        record.groups["of"].fields["generation"] = 9
    yield finished("no-share-counts", "all shares are of other generations", "SH-3", region)
    region = with_shares()
    region.records["blk_queue"][1].groups["of"].seq = 5
    yield finished("share-that-is-given-out", "whose device cannot be read yet", "RD-19", region)
    region = with_shares()
    region.records["blk_queue"][1].groups["io"].seq = 5
    yield finished("share-that-is-stalled", "one share's io is in mid-update", "SH-4", region)
    region = with_shares()
    latency = region.records["blk_queue"][1].groups["rd_latency"].fields
    latency["max_ns"], latency["sum_ns"] = 40, latency["sum_ns"] + 40
    latency["ns"][6] += 1
    region.records["blk_queue"][2].groups["rd_latency"].fields["ns"][39] = None
    yield finished("shares-of-distributions", "buckets add up, of maxima the largest is taken", "SH-1 SH-2", region)
    region = fill(table_only(blk_queue=4, net_queue=2))
    for record in region.records["blk_queue"][1::2]:
        record.groups["of"].fields["device"] = 1
    region = add(region, blk=2)
    fill(region)
    yield finished("shares-of-two-devices", "block devices and interfaces", "RD-19 SH-1", region)
    region = with_shares()
    region.records["blk_queue"][2].groups["of"].fields["device"] = 2**40
    region.records["blk_queue"][1].groups["of"].fields["device"] = 7
    yield finished("shares-of-devices-that-are-not-there", "they count for nobody", "RD-19 SE-1", region)


def distributions():
    region = fill(table_only(vcpu_hist=2, blk_hist=1))
    wait = region.records["vcpu_hist"][0].groups["wait"].fields
    wait["ns"] = [1] * 40
    wait["sum_ns"], wait["max_ns"] = 2**39, 2**38
    region.records["vcpu_hist"][1].groups["wait"].fields = {"sum_ns": None, "max_ns": None, "ns": None}
    size = region.records["blk_hist"][0].groups["rd_size"].fields
    size["bytes"][31] = SATURATED
    yield finished("distributions", "every bucket; none produced; one saturated", "LA-19 LA-16", region)
    region = fill(table_only(labels=1))
    yield finished("labels", "two labels", "LA-23", region)
    region = fill(table_only(labels=1))
    region.records["labels"][0].groups["labels"].fields["text"] = None
    yield finished("labels-not-produced", "a record of labels without any", "LA-17 LA-23", region)
    region = fill(table_only(labels=1))
    text = "".join(f"key.{i}={'v' * 90}\n" for i in range(10)) + "k=é\n"
    region.records["labels"][0].groups["labels"].fields["text"] = text
    yield finished("labels-long", "nearly as much text as there is room for", "LA-23", region)


def life():
    region = fill(small(5))
    region.state, region.notify = 2, 5
    yield finished("retired", "the domain has ended", "RD-20", region)
    region = fill(small(5))
    region.state = 0
    yield finished("initializing", "the magic is there, the state not yet", "RD-5", region)
    region = fill(small(5))
    region.incarnation = 2**64 - 1
    yield finished("largest-incarnation", "an identity of 64 bits", "RD-15", region)
    for clock, name in ((0, "unknown"), (2, "boottime"), (3, "xen")):
        region = fill(small(1))
        region.clock = clock
        yield finished(f"clock-{name}", f"times of the clock {name}", "LA-25 RD-5", region)
