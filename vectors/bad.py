"""Regions that break a clause, and what a reader does: refuse the region, skip the part beyond the header,
or read it all the same."""

import struct

from describe import arch, fill, small, table_only, whole
from model import (HEADER_WORDS, NUMBER, PAGE, SATURATED, Region, groups_of, magic)

MAX = 2**32 - 1


def vectors():
    yield from cut()
    yield from magics()
    yield from dom_sizes()
    for kind in ("vcpu", "blk", "net"):
        yield from arrays(kind)
    yield from sections()
    yield from overlaps()
    yield from tables()
    yield from schemas()
    yield from records()
    yield from texts()


def refused(name, what, clauses, data):
    return {"name": name, "what": what, "verdict": "refuse", "clauses": clauses.split(), "bytes": data}


def header(name, what, clauses, words, region=None):
    region = region or fill(small(4, vcpu=1))
    region.words.update(words)
    return refused(name, what, "RD-4 " + clauses, region.bytes())


def cut():
    data = fill(small(4, vcpu=1)).bytes()
    for length in (1, 64, 127):
        yield refused(f"cut-to-{length}-bytes", "shorter than a header", "RD-3 SE-1", data[:length])
    yield refused("cut-in-the-dom-record", "the file ends inside the dom record", "RD-4 LA-4", data[:512])
    end = fill(small(4, vcpu=1)).plan()[0]["net"]
    yield refused("cut-by-8-bytes", "the file ends 8 bytes before the last array does", "RD-4 LA-7",
                  data[:end[0] + end[2] - 8])


def magics():
    for name, word, what in (
            ("0", 0, "not published yet"), ("big-endian", 0x444F4D01, "the other byte order"),
            ("of-version-2", 0x024D4F44, "an incompatible version"), ("of-a-vcpu", magic("vcpu"), "of a record"),
            ("of-elf", 0x464C457F, "of a program"), ("of-all-ones", MAX, "nothing")):
        region = fill(small(4, vcpu=1))
        region.words["magic"] = word
        yield refused(f"magic-{name}", what, "RD-3 LA-3", region.bytes())


def dom_sizes():
    for size, what in ((0, "0"), (120, "shorter than a header"), (444, "not a multiple of 8"),
                       (2 * PAGE + 8, "longer than the region"), (2**31, "negative as a signed number"),
                       (MAX, "the largest number")):
        yield header(f"dom-size-{size}", f"dom_size is {what}", "LA-4", {"dom_size": size})


def arrays(kind):
    region = fill(small(4, vcpu=1))
    offs, size, stride, nr = region.plan()[0][kind]
    prefix, count = kind + "_", f"nr_{kind}s"
    length = len(region.bytes())
    cases = [
        ("offs-in-the-dom-record", {prefix + "offs": 128}, "LA-5" if kind == "vcpu" else "LA-9"),
        ("offs-unaligned", {prefix + "offs": offs + 4}, "LA-5"),
        ("offs-at-the-end", {prefix + "offs": length}, "LA-7"),
        ("offs-largest", {prefix + "offs": MAX - 7}, "LA-7"),
        ("size-24", {prefix + "size": 24}, "LA-5"),
        ("size-unaligned", {prefix + "size": size - 4}, "LA-5"),
        ("stride-0", {prefix + "stride": 0}, "LA-5"),
        ("stride-shorter-than-a-record", {prefix + "stride": size - 8}, "LA-5"),
        ("stride-unaligned", {prefix + "stride": stride + 4}, "LA-5"),
        ("nr-0", {count: 0}, "LA-6"),
        ("nr-65537", {count: 65537}, "LA-6"),
        ("nr-largest", {count: MAX}, "LA-6"),
        ("nr-past-the-end", {count: (length - offs) // stride + 1}, "LA-7"),
        # 2^16 records of 2^16 bytes end at byte 2^32, which is 0 in 32 bits.
        ("wraps-32-bits", {count: 65536, prefix + "stride": 65536}, "LA-7 SE-1"),
    ]
    for name, words, clauses in cases:
        yield header(f"{kind}-{name}", f"{kind} array: {name.replace('-', ' ')}", clauses, words)
    if kind != "vcpu":
        region = fill(small(1))
        yield header(f"{kind}-only-a-number", "one of the four words is not 0", "LA-6 LA-5", {count: 1}, region)


def sections():
    def region():
        return fill(arch(small(4), "arch_dom", "arch_vcpu"))

    made = region()
    length, vcpu = len(made.bytes()), made.plan()[0]["vcpu"]
    for name, words, clauses in (
            ("arch-dom-shorter-than-a-header", {"arch_dom_size": 24}, "LA-20"),
            ("arch-dom-unaligned", {"arch_dom_size": 60}, "LA-20"),
            ("arch-dom-past-the-end", {"arch_dom_offs": length - 8}, "LA-7"),
            ("arch-dom-largest", {"arch_dom_offs": MAX - 7, "arch_dom_size": MAX - 7}, "LA-7 SE-1"),
            ("arch-dom-without-a-start", {"arch_dom_offs": 0}, "LA-9"),
            ("arch-vcpu-inside-the-record", {"arch_vcpu_offs": vcpu[1] - 8}, "LA-20"),
            ("arch-vcpu-past-the-stride", {"arch_vcpu_offs": vcpu[2] - 8}, "LA-20"),
            ("arch-vcpu-longer-than-the-stride", {"arch_vcpu_size": vcpu[2]}, "LA-20"),
            ("arch-vcpu-shorter-than-a-header", {"arch_vcpu_size": 16}, "LA-20"),
            ("arch-vcpu-unaligned", {"arch_vcpu_offs": vcpu[1] + 4}, "LA-20")):
        yield header(name, name.replace("-", " "), clauses, words, region())
    for name, words, clauses in (
            ("schema-shorter-than-a-header", {"schema_size": 24}, "LA-7"),
            ("schema-unaligned", {"schema_offs": 4}, "LA-7"),
            ("schema-past-the-end", {"schema_size": 2**20}, "LA-7"),
            ("schema-starts-at-the-end", {"schema_offs": 4 * PAGE}, "LA-7"),
            ("schema-without-a-length", {"schema_size": 0}, "LA-7")):
        yield header(name, name.replace("-", " "), clauses, words, fill(table_only(labels=1)))


def overlaps():
    region = fill(whole(4))
    arrays, schema = region.plan()
    for name, words in (
            ("blk-in-vcpu", {"blk_offs": arrays["vcpu"][0]}),
            ("net-in-blk", {"net_offs": arrays["blk"][0]}),
            ("net-in-the-last-gap-of-vcpus", {"net_offs": arrays["blk"][0] - 8}),
            ("schema-in-vcpu", {"schema_offs": arrays["vcpu"][0]}),
            ("schema-in-dom", {"schema_offs": 128}),
            ("arch-dom-in-dom", {"arch_dom_offs": 256}),
            ("arch-dom-in-net", {"arch_dom_offs": arrays["net"][0]}),
            ("arch-dom-in-schema", {"arch_dom_offs": schema})):
        yield header(f"overlap-{name}", name.replace("-", " "), "LA-9", words, fill(whole(4)))


def skipped(name, what, clauses, region):
    return {"name": name, "what": what, "verdict": "skip", "clauses": ["RD-18"] + clauses.split(),
            "answers": region.answers(beyond=False, schema=False), "bytes": region.bytes()}


def beyond():
    """Records of three kinds beyond the header; shares of io and io_times only."""
    region = fill(table_only(blk_queue=2, vcpu_hist=2, labels=1))
    region.size["blk_queue"] = 192
    for record in region.records["blk_queue"]:
        record.groups = {name: record.groups[name] for name in ("of", "io", "io_times")}
    return region


def tables():
    # Words of an entry: kind, name, offs, size, stride, nr, active, header.
    KIND, OFFS, SIZE, STRIDE, NR, ACTIVE, HEADER = 0, 2, 3, 4, 5, 6, 7
    arrays = beyond().plan()[0]
    cases = [
        ("start-unaligned", "vcpu_hist", OFFS, arrays["vcpu_hist"][0] + 4, "SC-6"),
        ("length-unaligned", "vcpu_hist", SIZE, 388, "SC-6"),
        ("stride-unaligned", "blk_queue", STRIDE, 196, "SC-6"),
        ("length-24", "vcpu_hist", SIZE, 24, "SC-6"),
        ("stride-0", "blk_queue", STRIDE, 0, "SC-6"),
        ("stride-shorter-than-a-record", "vcpu_hist", STRIDE, 376, "SC-6"),
        ("stats-active-elsewhere", "labels", ACTIVE, 24, "SC-6"),
        ("header-of-16-bytes", "labels", HEADER, 16, "SC-6"),
        ("past-the-end", "labels", OFFS, 2**20, "SC-6"),
        ("largest-start", "labels", OFFS, MAX - 7, "SC-6 SE-1"),
        ("wraps-32-bits", "blk_queue", STRIDE, MAX - 7, "SC-6 SE-1"),
        ("no-shares", "blk_queue", NR, 0, "SC-7"),
        ("more-shares-than-there-can-be", "blk_queue", NR, 65537, "SC-7"),
        ("fewer-than-vcpus", "vcpu_hist", NR, 1, "SC-7"),
        ("more-than-vcpus", "vcpu_hist", NR, 3, "SC-7"),
        ("of-no-device", "net_queue", NR, 0, "SC-7"),
        ("two-records-of-labels", "labels", NR, 2, "SC-7"),
        ("over-the-dom-record", "labels", OFFS, 0, "SC-8"),
        ("over-the-vcpus", "labels", OFFS, arrays["vcpu"][0], "SC-8"),
        ("over-each-other", "labels", OFFS, arrays["blk_queue"][0], "SC-8"),
        ("kind-0", "dom", KIND, 0, "SC-9"),
        ("kind-twice", "vcpu_hist", KIND, NUMBER["labels"], "SC-9"),
        ("kinds-out-of-order", "blk_queue", KIND, 14, "SC-9"),
    ]
    for name, kind, word, number, clauses in cases:
        region = beyond()
        if kind == "net_queue":
            region = fill(table_only(blk_queue=2, net_queue=1))
        region.entry_words[kind, word] = number
        yield skipped(f"table-{name}", f"table of records, {kind}: {name.replace('-', ' ')}", clauses, region)
    region = beyond()
    region.entry_words["labels", OFFS] = region.plan()[1]
    yield skipped("table-over-the-schema", "labels lie over the schema", "SC-8", region)
    region = beyond()
    region.stride["vcpu"] = 1024
    region.offs["vcpu_hist"] = region.plan()[0]["vcpu"][0] + 320
    region.stride["vcpu_hist"] = 1024
    made = skipped("table-windows-overlap", "distributions begin inside the vCPUs' records", "SC-8", region)
    yield made
    for name, at, number, clauses in (
            ("magic", 0, 0x01484354, "SC-9"), ("more-than-there-is-room-for", 4, 60, "SC-1 SE-1"),
            ("65-kinds", 4, 65, "SC-5"), ("largest-number", 4, MAX, "SC-1 SE-1"),
            ("entries-of-24-bytes", 8, 24, "SC-1"), ("entries-of-36-bytes", 8, 36, "SC-1"),
            ("entries-of-0-bytes", 8, 0, "SC-1 SE-1")):
        region = beyond()
        region.schema_words[at] = number
        yield skipped(f"table-{name}", f"schema: {name.replace('-', ' ')}", clauses, region)


def read(name, what, clauses, region, **options):
    return {"name": name, "what": what, "verdict": "read", "clauses": clauses.split(),
            "answers": region.answers(**options), "bytes": region.bytes()}


def schemas():
    """A schema that is not legal is not used; its table of records is, if that is legal."""
    def region():
        made = Region(4, vcpu=1)
        made.schema = "full"
        return fill(arch(made, "arch_dom"))

    made = region()
    schema = made.schema_bytes(made.plan()[0])
    nr_records, _, nr_groups, _, nr_fields, _, nr_strings = struct.unpack_from("<7I", schema, 4)
    groups = 32 + 32 * nr_records
    fields = groups + 40 * nr_groups
    last_group, last_field = fields - 40, fields + 48 * (nr_fields - 1)
    cases = [
        ("no-room-for-groups", 12, 2**20, "SC-1 SE-1"), ("no-room-for-fields", 20, MAX, "SC-1 SE-1"),
        ("no-room-for-strings", 28, nr_strings + 8, "SC-1"), ("groups-of-32-bytes", 16, 32, "SC-1"),
        ("fields-of-50-bytes", 24, 50, "SC-1"), ("name-of-a-record-outside", 32 + 4, MAX, "SC-2 SE-1"),
        ("name-of-a-group-outside", last_group + 16, nr_strings, "SC-2"),
        ("name-of-a-field-outside", last_field, 2**31, "SC-2"),
        ("name-without-a-letter", last_field, nr_strings - 1, "SC-2"),
        ("group-of-no-record", last_group, 77, "SC-3"), ("group-before-the-last-one", groups, 4, "SC-3"),
        ("group-in-the-header", groups + 8, 64, "SC-3"), ("group-past-the-record", last_group + 12, 4096, "SC-3"),
        ("group-with-bit-64", last_group + 4, 64, "SC-3"), ("group-without-fields", last_group + 24, 0, "SC-3"),
        ("fields-of-another-group", last_group + 20, 0, "SC-3"),
        ("twin-of-a-later-group", last_group + 32, 9, "SC-3"),
        ("field-in-the-groups-header", last_field + 4, 32, "SC-3"),
        ("field-past-the-group", last_field + 8, 64, "SC-3"), ("field-of-4-bytes", last_field + 8, 4, "SC-3"),
        ("field-of-0-bytes", last_field + 8, 0, "SC-3"), ("base-16", last_field + 24, 16, "SC-3"),
        ("exponent-65", last_field + 20, 65, "SC-3"),
        ("histogram-of-other-buckets", last_field + 12, 5, "SC-3"),
    ]
    for name, at, number, clauses in cases:
        made = region()
        made.schema_words[at] = number
        yield read(f"schema-{name}", f"schema: {name.replace('-', ' ')}", "SC-12 " + clauses, made, schema=False)


def records():
    """What is wrong in records and is read all the same."""
    region = fill(small(5))
    region.records["vcpu"][1].magic = 0
    yield read("record-without-magic", "a vcpu record without its magic number", "LA-10 RD-5", region)
    region = fill(small(5))
    region.records["vcpu"][1].index = 0
    yield read("record-with-the-index-of-another", "vCPU 1 says that it is vCPU 0", "LA-10 RD-5", region)
    region = fill(small(5))
    region.words["align"] = 48
    yield read("align-48", "not a power of two", "LA-8 RD-5", region)
    region = fill(small(5))
    region.words["align"] = PAGE
    yield read("align-that-is-not-kept", "starts are not multiples of align", "LA-8 RD-5", region)
    region = fill(small(5))
    region.patches.append((120, b"\x01"))
    yield read("reserved-word-of-the-header", "byte 120 is 1", "LA-11 RD-5", region)
    region = fill(small(5))
    region.patches.append((region.plan()[0]["vcpu"][0] + 20, b"\xff" * 12))
    yield read("reserved-words-of-a-record", "bytes 20 to 31 are set", "LA-11 RD-5", region)
    region = fill(small(5))
    region.patches.append((groups_of(5, "dom")["memory"]["offset"] + 4, b"\x01"))
    yield read("reserved-word-of-a-group", "the word after seq is 1", "LA-11 RD-5", region)
    region = fill(small(5))
    offs, size, _, _ = region.plan()[0]["vcpu"]
    region.patches.append((offs + size, b"\xff" * 48))
    yield read("bytes-in-a-gap", "the gap after vCPU 0 is not 0", "LA-12 RD-5", region)
    region = fill(small(5))
    region.size["dom"] = groups_of(5, "dom")["lineage"]["offset"] + 40
    yield read("active-group-past-the-record", "the record ends 8 bytes before the group does", "LA-15 RD-6", region)
    region = fill(small(5))
    region.size["vcpu"] = 32
    region.stride["vcpu"] = 384
    yield read("bits-of-groups-that-are-not-there", "vcpu records are headers, with every bit set", "LA-15 RD-6",
               region)
    region = fill(small(1))
    for record in region.records["vcpu"]:
        record.bits = 2**64 - 1
    yield read("every-bit-set", "of a record of one group", "LA-14 LA-15 RD-16", region)
    region = fill(small(5))
    for record in region.records["vcpu"]:
        record.groups["runstate"].seq, record.groups["runstate_twin"].active = 5, False
    yield read("twin-that-is-not-active", "the first copy is busy, the bit of the second is clear", "WR-14 RD-13",
               region)
    region = fill(small(5))
    group = region.records["dom"][0].groups["cpu"]
    group.active, group.seq = False, 4
    yield read("not-active-and-even", "a bit was cleared, and seq left even", "WR-7 RD-11", region)
    region = fill(small(5))
    region.records["vcpu"][0].groups["runstate"].fields["state"] = 9
    region.records["vcpu"][0].groups["runstate_twin"].fields["state"] = 9
    yield read("state-out-of-range", "a runstate that has no name", "LA-18 RD-16", region)
    region = fill(small(5))
    group = region.records["blk"][0].groups["queue"].fields
    group["completed"] = group["submitted"] + 5
    yield read("more-completed-than-submitted", "a queue with less than nothing in flight", "WR-17 SE-1", region)
    region = fill(table_only(vcpu_hist=2))
    wait = region.records["vcpu_hist"][0].groups["wait"].fields
    wait["max_ns"], wait["sum_ns"] = 2**50, 1
    yield read("distribution-that-contradicts-itself", "a maximum outside the highest bucket", "LA-19 RD-5", region)
    region = fill(table_only(vcpu_hist=2))
    region.records["vcpu_hist"][0].groups["wait"].fields["ns"] = [SATURATED - 1] * 40
    yield read("distribution-that-overflows", "buckets whose sum exceeds 64 bits", "LA-19 SE-1", region)


def texts():
    for name, text, what in (
            ("without-an-end", b"x" * 128, "no zero byte"), ("not-utf-8", b"a\xff\xfe", "not UTF-8"),
            ("cut-in-a-character", b"a\xc3", "half a character")):
        region = fill(small(5))
        region.records["dom"][0].groups["identity"].fields["name"] = text
        yield read(f"text-{name}", f"a name with {what}", "LA-17 RD-24", region)
    for name, text in (("without-a-key", "=v\n"), ("twice", "a=1\na=2\n"), ("without-an-end", "a=1"),
                       ("with-capitals", "Key=v\n")):
        region = fill(table_only(labels=1))
        region.records["labels"][0].groups["labels"].fields["text"] = text
        yield read(f"labels-{name}", f"labels {name.replace('-', ' ')}: the text is answered as it is",
                   "LA-23 RD-5", region)
