"""Regions as vectors have them: what is in their groups unless a vector says otherwise."""

from model import (BASE, FROZEN, KINDS, NUMBER, SHARES, Group, Record, Region, described, groups_of)

LABELS = "tenant=acme\nproject=web shop\n"


def value(kind, index, desc, field, first_offset, nr_devices):
    """A legal value that says where it lies."""
    number = NUMBER[kind] * 1_000_000 + index * 10_000 + first_offset
    histogram = any(f["kind"] == "log_histogram" for f in desc["fields"])
    bucket, nr = 4 + desc["bit"] % 6, index + 1
    name, width = field["name"], field["width"]
    if field["kind"] == "state":
        return index % len(field["states"])
    if field["kind"] == "log_histogram":
        return [nr if i == bucket else 0 for i in range(width // 8)]
    if field["kind"] == "peak":
        return 1 << (bucket - 1)
    if histogram and field["kind"] == "cumulative":
        return nr << (bucket - 1)
    if desc["name"] == "of" and name == "device":
        return index % nr_devices
    if desc["name"] == "of" and name == "generation":
        return 0
    if name == "completed":
        return number - 8
    if width == 8:
        return number
    if field["kind"] == "text":
        return LABELS if width == 1024 else f"name-{NUMBER[kind]}-{index}"
    return bytes(range(1, width + 1))


def group(region, kind, index, desc):
    table = region.table(kind)
    first = desc
    if "twin_of" in desc:
        first = next(d for d in table.values() if d["bit"] == desc["twin_of"])
    nr_devices = len(region.records.get(SHARES.get(kind), [])) or 1
    fields = {}
    for f in desc["fields"]:
        if kind in NUMBER and kind in {r["name"] for r in FROZEN[5]["records"]}:
            at = f["offset"] - desc["offset"] + first["offset"]
            fields[f["name"]] = value(kind, index, first, f, at, nr_devices)
        else:
            nr = f["width"] // 8
            words = [index * 100 + 5 + i for i in range(nr)]
            fields[f["name"]] = 0 if f["kind"] == "state" else words[0] if nr == 1 else words
    return Group(fields)


def fill(region):
    """Every group of every record, with legal values."""
    for kind in region.kinds():
        for index, record in enumerate(region.records[kind]):
            for name, desc in region.table(kind).items():
                record.groups.setdefault(name, group(region, kind, index, desc))
    dom = region.records["dom"][0]
    if "identity" in dom.groups:
        dom.groups["identity"].fields["created_ns"] = 100
    return region


def small(revision=5, **more):
    """Two vCPUs and what the revision has of devices, one of each; everything active."""
    numbers = {"vcpu": 2}
    if revision >= 2:
        numbers["blk"] = 1
    if revision >= 4:
        numbers["net"] = 1
    options = {key: more.pop(key) for key in ("pages", "align") if key in more}
    region = Region(revision, **options, **{**numbers, **more})
    return region


def whole(revision, **more):
    """Everything that a revision has."""
    region = small(revision, **more)
    if revision >= 4:
        region.schema = "full"
        arch(region, "arch_dom", "arch_vcpu")
    if revision >= 5:
        add(region, blk_queue=2, net_queue=2, vcpu_hist=2, blk_hist=1, labels=1)
        arch(region, "arch_blk", "arch_net")
    return region


def add(region, **numbers):
    for kind, nr in numbers.items():
        region.records[kind] = [Record({}) for _ in range(nr)]
    region.records = {kind: region.records[kind] for kind in KINDS if kind in region.records}
    return region


def arch(region, *kinds):
    """Arch slots with one group of one counter."""
    for kind in kinds:
        add(region, **{kind: len(region.records[BASE[kind]])})
        region.groups[kind] = {"kvm": described("kvm", [{"name": "exits"}])}
    return region


def table_only(**numbers):
    """Revision 5 with a schema that is only a table of records: small."""
    region = small()
    region.schema = "table"
    return add(region, **numbers)


def bits_of(kind, revision=5):
    return sum(1 << g["bit"] for g in groups_of(revision, kind).values())
