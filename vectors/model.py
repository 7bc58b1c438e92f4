"""Model of a region: a description of what is in it, from which its bytes and the answers that a reader
must give are made, each by itself.

It knows the layout from layout/frozen/rN.json and docs/spec.md; no code of a reader or a writer is used.
"""

import json
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FROZEN = {n: json.loads((ROOT / f"layout/frozen/r{n}.json").read_text()) for n in range(1, 6)}
LATEST = FROZEN[5]
CONSTANTS = {name: int(text, 0) for name, text in LATEST["constants"].items()}
NOT_PRODUCED, SATURATED = 2**64 - 1, 2**64 - 2
LARGEST = 2**64 - 3
PAGE = 4096

HEADER_WORDS = {w["name"]: w["offset"] for w in LATEST["headers"][0]["words"]}
HEADER_KINDS = ["dom", "vcpu", "blk", "net"]
BEYOND = ["blk_queue", "net_queue", "arch_blk", "arch_net", "vcpu_hist", "blk_hist", "labels"]
KINDS = HEADER_KINDS + ["arch_dom", "arch_vcpu"] + BEYOND
NUMBER = {kind: CONSTANTS["KIND_" + kind.upper()] for kind in KINDS}
BASE = {"arch_dom": "dom", "arch_vcpu": "vcpu", "arch_blk": "blk", "arch_net": "net",
        "vcpu_hist": "vcpu", "blk_hist": "blk"}
FIELD_KINDS = {"cumulative": 1, "instant": 2, "peak": 3, "linear_histogram": 4, "log_histogram": 5,
               "state": 6, "id": 7, "text": 8}
# Unit of the registry and exponent.
UNITS = {"-": (0, 0), "bytes": (1, 0), "ns": (2, -9), "events": (5, 0)}
SHARES = {"blk_queue": "blk", "net_queue": "net"}

INACTIVE, STALLED = "group not active", "stalled"


def magic(kind):
    return CONSTANTS["ARCH_MAGIC" if kind.startswith("arch") else kind.upper() + "_MAGIC"]


def groups_of(revision, kind):
    """Groups of a kind in a revision, by name; none of arch slots."""
    for record in FROZEN[revision]["records"]:
        if record["name"] == kind:
            return {group["name"]: group for group in record["groups"]}
    return {}


def size_of(revision, kind):
    return max((g["offset"] + g["size"] for g in groups_of(revision, kind).values()), default=0)


def header_len(kind):
    return 128 if kind == "dom" else 32


def active_at(kind):
    return 24 if kind == "dom" else 8


def roundup(n, align):
    return -(-n // align) * align


def raw(field, value):
    """Bytes of a field: numbers, lists of numbers, text, or bytes as they are; None: not produced."""
    width = field["width"]
    if value is None:
        return b"\xff" * width
    if isinstance(value, bytes):
        return value + bytes(width - len(value))
    if isinstance(value, str):
        return raw(field, value.encode())
    if isinstance(value, int):
        value = [value]
    return b"".join(struct.pack("<Q", NOT_PRODUCED if v is None else v) for v in value)


def word_answer(value):
    if value is None or value == NOT_PRODUCED:
        return "not produced"
    return "saturated" if value == SATURATED else str(value)


def field_answer(field, value):
    """The answer for a field of an active group."""
    width = field["width"]
    if field["kind"] == "text":
        if value is None:
            return "not produced"
        text = value.encode() if isinstance(value, str) else value
        text = (text + bytes(width - len(text))) if len(text) < width else text
        text, end, _ = text.partition(b"\0")
        try:
            return {"text": text.decode()} if end else "not produced"
        except UnicodeDecodeError:
            return "not produced"
    if field["kind"] == "id" and width == 16:
        return "not produced" if value is None else {"bytes": value.hex()}
    if width == 8:
        return word_answer(value)
    words = [None] * (width // 8) if value is None else value
    return [word_answer(word) for word in words]


class Group:
    """What a group holds, and its seq; `active` is its bit."""

    def __init__(self, fields, seq=2, active=True, updated=9_000_000):
        self.fields, self.seq, self.active, self.updated = fields, seq, active, updated

    def copy(self):
        return Group(dict(self.fields), self.seq, self.active, self.updated)


class Record:
    def __init__(self, groups, generation=0):
        self.groups, self.generation = groups, generation
        self.bits = 0  # bits that no group here has
        self.magic = self.index = None  # others than they should be


def described(name, fields, kind_number=None):
    """A group that only a schema describes: fields with name, kind, unit, exponent, base, values."""
    offset = 32 + 16
    out = []
    for f in fields:
        words = f.get("words", 1)
        out.append({"name": f["name"], "offset": offset, "width": 8 * words, "kind": f.get("kind", "cumulative"),
                    "unit": f.get("unit", "events"), "exponent": f.get("exponent"), "base": f.get("base", 10),
                    "states": f.get("states"), "bucket_size": f.get("bucket_size", 0)})
        offset += 8 * words
    return {"name": name, "bit": 0, "offset": 32, "size": offset - 32, "since": 0, "fields": out}


class Region:
    """A region, described. Sizes, strides and words can be other than they should be."""

    def __init__(self, revision, pages=False, align=None, **numbers):
        self.revision, self.pages = revision, pages
        self.align = align or (PAGE if pages else 64)
        self.state, self.clock, self.incarnation = 1, 1, 77
        self.notify = 0
        self.records = {}
        self.size = {}       # lengths of records, if not those of the revision
        self.stride = {}     # distances, if not the smallest
        self.offs = {}       # starts, if not the next
        self.groups = {}     # groups of arch slots and private kinds, by kind
        self.private = []    # kinds of one's own: (number, name)
        self.schema = None   # None, "full" or "table"
        self.schema_words = {}  # changes of the schema: offset in it -> u32
        self.entry_words = {}   # changes of entries of its records: (kind, word) -> u32
        self.lens = (32, 40, 48)  # of entries of the schema
        self.extra_entries = []   # entries of kinds that a reader does not know
        self.words = {}      # changes of header words: name -> u32
        self.patches = []    # (offset, bytes) at last
        self.length = None   # of the region, if not what is needed
        self.strings_at_end = b""
        for kind, nr in numbers.items():
            self.records[kind] = [Record({}) for _ in range(nr)]
        self.records.setdefault("dom", [Record({})])

    def kinds(self):
        private = [name for _, name in self.private]
        return [kind for kind in KINDS if self.records.get(kind)] + private

    def number(self, kind):
        return NUMBER.get(kind) or dict((name, number) for number, name in self.private)[kind]

    def table(self, kind):
        """Groups of a kind, as this region's producer knows them."""
        return self.groups.get(kind) or groups_of(self.revision, kind)

    def size_of(self, kind):
        own = max((g["offset"] + g["size"] for g in self.table(kind).values()), default=header_len(kind))
        return self.size.get(kind, own)

    # ---- Bytes ----------------------------------------------------------------------------------

    def plan(self):
        """Where each kind lies: offs, size, stride, nr; and the schema."""
        arrays, at = {}, self.size_of("dom")
        arrays["dom"] = (0, at, at, 1)
        for kind in self.kinds()[1:]:
            size, nr = self.size_of(kind), len(self.records[kind])
            if kind == "arch_vcpu":
                offs, _, stride, _ = arrays["vcpu"]
                arrays[kind] = (offs + self.arch_offs(), size, stride, nr)
                continue
            least = size
            if kind == "vcpu" and self.records.get("arch_vcpu"):
                least = self.arch_offs() + self.size_of("arch_vcpu")
            # A section has no stride; its entry in the schema says its length.
            stride = size if kind == "arch_dom" else self.stride.get(kind, roundup(least, self.align))
            offs = self.offs.get(kind, roundup(at, self.align))
            arrays[kind] = (offs, size, stride, nr)
            at = max(at, offs + nr * stride)
        return arrays, roundup(at, self.align if self.pages else 64)

    def arch_offs(self):
        return roundup(self.size_of("vcpu"), 16)

    def bytes(self):
        arrays, schema_at = self.plan()
        schema = self.schema_bytes(arrays) if self.schema else b""
        end = schema_at + len(schema)
        out = bytearray(self.length if self.length is not None else roundup(end, PAGE))
        buffer = bytearray(max(len(out), end))
        for kind in self.kinds():
            offs, size, stride, nr = arrays[kind]
            for index, record in enumerate(self.records[kind]):
                self.put_record(buffer, kind, index, record, offs + index * stride, size)
        buffer[schema_at:schema_at + len(schema)] = schema
        self.put_header(buffer, arrays, (schema_at, len(schema)) if schema else (0, 0))
        for at, data in self.patches:
            buffer[at:at + len(data)] = data
        return bytes(buffer[:len(out)])

    def put_header(self, buffer, arrays, schema):
        none = (0, 0, 0, 0)
        vcpu, blk, net = (arrays.get(kind, none) for kind in ("vcpu", "blk", "net"))
        arch_dom = arrays.get("arch_dom", none)
        arch_vcpu = (self.arch_offs(), arrays["arch_vcpu"][1]) if "arch_vcpu" in arrays else (0, 0)
        words = {"magic": magic("dom"), "dom_size": arrays["dom"][1],
                 "vcpu_offs": vcpu[0], "vcpu_size": vcpu[1], "vcpu_stride": vcpu[2], "nr_vcpus": vcpu[3],
                 "align": self.align, "state": self.state, "notify": self.notify, "revision": self.revision,
                 "clock": self.clock, "arch_dom_offs": arch_dom[0], "arch_dom_size": arch_dom[1],
                 "arch_vcpu_offs": arch_vcpu[0], "arch_vcpu_size": arch_vcpu[1],
                 "schema_offs": schema[0], "schema_size": schema[1],
                 "blk_offs": blk[0], "blk_size": blk[1], "blk_stride": blk[2], "nr_blks": blk[3],
                 "net_offs": net[0], "net_size": net[1], "net_stride": net[2], "nr_nets": net[3]}
        for name, value in {**words, **self.words}.items():
            struct.pack_into("<I", buffer, HEADER_WORDS[name], value)
        struct.pack_into("<Q", buffer, HEADER_WORDS["incarnation"], self.incarnation)

    def put_record(self, buffer, kind, index, record, at, size):
        bits = record.bits
        table = self.table(kind)
        for name, group in record.groups.items():
            desc = table[name]
            bits |= group.active << desc["bit"]
            data = bytearray(desc["size"])
            struct.pack_into("<IIQ", data, 0, group.seq, 0, group.updated)
            for field in desc["fields"]:
                start = field["offset"] - desc["offset"]
                data[start:start + field["width"]] = raw(field, group.fields[field["name"]])
            # Of a group that the record is too short for, what lies inside is written.
            data = data[:max(0, size - desc["offset"])]
            buffer[at + desc["offset"]:at + desc["offset"] + len(data)] = data
        struct.pack_into("<Q", buffer, at + active_at(kind), bits)
        if kind != "dom":
            own = magic(kind) if kind in NUMBER else 0x01565250  # "PRV" and 1
            first = [own if record.magic is None else record.magic,
                     index if record.index is None else record.index]
            struct.pack_into("<II", buffer, at, *first)
            struct.pack_into("<I", buffer, at + 16, record.generation)

    def schema_bytes(self, arrays):
        strings = bytearray()

        def string(text):
            at = strings.find(text.encode() + b"\0")
            while at > 0 and strings[at - 1] != 0:
                at = strings.find(text.encode() + b"\0", at + 1)
            if at < 0:
                at = len(strings)
                strings.extend(text.encode() + b"\0")
            return at

        full = self.schema == "full"
        named = full or self.private or self.extra_entries
        records, groups, fields = [], [], []
        names = {kind: self.number(kind) for kind in self.kinds()}
        entries = [(number, kind) for kind, number in names.items()]
        entries += [(entry[0], None) for entry in self.extra_entries]
        for number, kind in sorted(entries):
            if kind is None:
                entry = next(entry for entry in self.extra_entries if entry[0] == number)
                records.append([number, string(entry[1]) if named else 0, *entry[2:], 8, 32])
                continue
            entry = [number, string(kind) if named else 0, *arrays[kind], active_at(kind), header_len(kind)]
            for (changed, word), value in self.entry_words.items():
                if changed == kind:
                    entry[word] = value
            records.append(entry)
        for kind, number in names.items() if full else []:
            table = sorted(self.table(kind).values(), key=lambda g: g["bit"])
            for g in table:
                twin = g["twin_of"] + 1 if "twin_of" in g else 0
                groups.append([number, g["bit"], g["offset"], g["size"], string(g["name"]), len(fields),
                               len(g["fields"]), g["since"], twin, 0])
                for f in g["fields"]:
                    fields.append(self.schema_field(f, string, strings))
        strings += self.strings_at_end
        strings += bytes(-len(strings) % 8)
        out = bytearray(struct.pack("<8I", CONSTANTS["SCHEMA_MAGIC"], len(records), self.lens[0], len(groups),
                                    self.lens[1] if groups else 0, len(fields),
                                    self.lens[2] if fields else 0, len(strings)))
        for entry in records:
            out += struct.pack("<8I", *entry).ljust(self.lens[0], b"\0")
        for entry in groups:
            out += struct.pack("<10I", *entry).ljust(self.lens[1], b"\0")
        for entry in fields:
            out += struct.pack("<5Ii2IQ2I", *entry).ljust(self.lens[2], b"\0")
        out += strings
        for at, value in self.schema_words.items():
            struct.pack_into("<I", out, at, value)
        return bytes(out)

    @staticmethod
    def schema_field(f, string, strings):
        kind = FIELD_KINDS.get(f["kind"], f["kind"])
        unit, exponent = UNITS.get(f["unit"], (f["unit"], 0))
        if f.get("exponent") is not None:
            exponent = f["exponent"]
        nr, states = 0, 0
        if f["kind"] in ("log_histogram", "linear_histogram"):
            nr = f["width"] // 8
        elif f["kind"] == "state":
            nr, states = len(f["states"]), len(strings)
            for name in f["states"]:
                strings.extend(name.encode() + b"\0")
        return [string(f["name"]), f["offset"], f["width"], kind, unit, exponent, f.get("base", 10), nr,
                f.get("bucket_size", 0), states, 0]

    # ---- Answers --------------------------------------------------------------------------------

    def answers(self, beyond=True, schema=True):
        """The answers of a reader that knows revision 5; `beyond`: it uses the kinds beyond the header,
        `schema`: it uses the schema."""
        records = {}
        for kind in HEADER_KINDS + ["blk_queue", "net_queue", "vcpu_hist", "blk_hist", "labels"]:
            if kind not in HEADER_KINDS and not beyond:
                continue
            if self.records.get(kind):
                size = self.size_of(kind)
                records[kind] = [self.record_answers(kind, record, size) for record in self.records[kind]]
        states = {0: "initializing", 1: "live", 2: "retired"}
        clocks = {1: "monotonic", 2: "boottime", 3: "xen"}
        out = {"region": {"state": states.get(self.words.get("state", self.state), "unknown"),
                          "clock": clocks.get(self.clock, "unknown"), "incarnation": str(self.incarnation)},
               "records": records}
        sums = self.sums() if beyond else {}
        if sums:
            out["devices"] = sums
        if schema and self.schema == "full" and self.groups:
            out["described"] = self.described_answers()
        return out

    def record_answers(self, kind, record, size):
        answers = {} if kind == "dom" else {"generation": str(record.generation)}
        for name, desc in groups_of(5, kind).items():
            if "twin_of" not in desc:
                answers[name] = self.group_answers(kind, record, size, name, desc)
        return answers

    def group_answers(self, kind, record, size, name, desc):
        group = self.readable(record, size, name, desc)
        if group is None:
            return INACTIVE
        if group.seq % 2:
            twins = [d for d in groups_of(5, kind).values() if d.get("twin_of", -1) == desc["bit"]]
            twin = self.readable(record, size, twins[0]["name"], twins[0]) if twins else None
            if twin is None or twin.seq % 2:
                return STALLED
            group = twin
        answers = {"updated_ns": str(group.updated)}
        for field in desc["fields"]:
            answers[field["name"]] = field_answer(field, group.fields[field["name"]])
        return answers

    @staticmethod
    def readable(record, size, name, desc):
        """The group, if its bit is set and it ends inside the record."""
        if desc["offset"] + desc["size"] > size:
            return None
        group = record.groups.get(name)
        return group if group is not None and group.active else None

    def sums(self):
        """By kind of device, for each device the groups that shares can have: their sum, or the device's own
        group if none of its shares has it."""
        out = {}
        for share_kind, device_kind in SHARES.items():
            shares = self.records.get(share_kind, [])
            if not shares or not self.records.get(device_kind):
                continue
            size, table = self.size_of(share_kind), groups_of(5, share_kind)
            devices = []
            for index, device in enumerate(self.records[device_kind]):
                own = [share for share in shares if self.is_of(share, size, table["of"], index, device)]
                sums = {}
                for name, desc in table.items():
                    if name != "of":
                        answer = self.sum_of(own, size, name, desc)
                        sums[name] = self.own_answer(device_kind, index, name) if answer is None else answer
                devices.append(sums)
            out[device_kind] = devices
        return out

    def is_of(self, share, size, desc, index, device):
        """Whether a share counts for a device."""
        of = self.readable(share, size, "of", desc)
        return of is not None and of.seq % 2 == 0 and of.fields["device"] == index \
            and of.fields["generation"] == device.generation

    def own_answer(self, device_kind, index, name):
        """What the device's own record, or that of its distributions, says."""
        for kind in (device_kind, device_kind + "_hist"):
            desc = groups_of(5, kind).get(name)
            if desc is not None and self.records.get(kind):
                return self.group_answers(kind, self.records[kind][index], self.size_of(kind), name, desc)
        return INACTIVE

    def sum_of(self, shares, size, name, desc):
        groups = [self.readable(share, size, name, desc) for share in shares]
        if any(group is not None and group.seq % 2 for group in groups):
            return STALLED
        if all(group is None for group in groups):
            return None
        if any(group is None for group in groups):
            return INACTIVE
        answers = {"updated_ns": str(max(group.updated for group in groups))}
        for field in desc["fields"]:
            values = [group.fields[field["name"]] for group in groups]
            add = max if field["kind"] == "peak" else sum
            if field["width"] == 8:
                answers[field["name"]] = word_answer(self.add(values, add))
            else:
                columns = zip(*(v if v is not None else [None] * (field["width"] // 8) for v in values))
                answers[field["name"]] = [word_answer(self.add(column, add)) for column in columns]
        return answers

    @staticmethod
    def add(values, add):
        values = [NOT_PRODUCED if value is None else value for value in values]
        if NOT_PRODUCED in values:
            return NOT_PRODUCED
        if SATURATED in values:
            return SATURATED
        return min(add(values), SATURATED)

    def described_answers(self):
        """Groups that the schema alone describes, one after the other."""
        out = []
        for kind in self.kinds():
            if kind not in self.groups:
                continue
            for index, record in enumerate(self.records[kind]):
                for name, desc in self.groups[kind].items():
                    group = self.readable(record, self.size_of(kind), name, desc)
                    entry = {"kind": str(self.number(kind)), "name": kind, "index": str(index), "group": name}
                    if group is None:
                        entry["fields"] = INACTIVE
                    elif group.seq % 2:
                        entry["fields"] = STALLED
                    else:
                        entry["fields"] = [self.described_field(f, group) for f in desc["fields"]]
                    out.append(entry)
        return out

    @staticmethod
    def described_field(f, group):
        unit, exponent = UNITS.get(f["unit"], (f["unit"], 0))
        exponent = f["exponent"] if f.get("exponent") is not None else exponent
        value = group.fields[f["name"]]
        words = value if isinstance(value, list) else [value]
        return {"field": f["name"], "kind": str(FIELD_KINDS.get(f["kind"], f["kind"])), "unit": str(unit),
                "exponent": str(exponent), "base": str(f.get("base", 10)),
                "words": [word_answer(word) for word in words]}
