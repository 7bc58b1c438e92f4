#!/usr/bin/env python3
"""Breaks the writer in C on purpose and holds its checks against each mutant.

Every ordering and fence of layout/include/domstat/write.h is found by parsing and weakened or
removed, one at a time; named mutants change its steps, and those of requests.h and threads.h. A
mutant is caught if tests/c/steps.c prints other steps than layout/tests/c_steps.txt has, which
ci/loom.sh runs next to readers, if abi/c/producer.c writes another golden region, or if
tests/c/counters.c makes other numbers of the same calls: tests/tests/c_counters.rs compares those of
the headers as they stand with the producer's in Rust. One that does not compile is an error, not a
catch.

What catches orderings are the steps as the source takes them, not what a CPU does: on x86-64 a
release store and a relaxed one are the same instruction, and no hunt for torn reads there finds them.

Exit status: 0 if every mutant was caught, 1 if one survived, 2 if one could not be judged.
"""

import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
WRITE = "write.h"
HEADERS = ROOT / "layout/include/domstat"
STEPS = ROOT / "layout/tests/c_steps.txt"
GOLDEN = ROOT / "tests/golden/r5-packed.bin"

# Steps changed: name, what stands there (exactly once), what stands there in the mutant.
NAMED = [
    ("write_begin: seq stays even", "+ 1) | 1;", "+ 2) & ~1u;"),
    (
        "write_begin: fence before the odd store",
        "    domstat_store32(seq, odd);\n    __atomic_thread_fence(__ATOMIC_RELEASE);\n",
        "    __atomic_thread_fence(__ATOMIC_RELEASE);\n    domstat_store32(seq, odd);\n",
    ),
    ("write_end: the number before", "__atomic_store_n(seq, odd + 1,", "__atomic_store_n(seq, odd - 1,"),
    ("suspend: never", "& 1) == 0)\n", "& 1) == 2)\n"),
    (
        "copy: even before the words",
        "    for (size_t i = 0; i < nr; i++)\n        domstat_store64(&to[2 + i], fields[i]);\n"
        "    domstat_write_end((domstat_half *)copy, odd);\n",
        "    domstat_write_end((domstat_half *)copy, odd);\n"
        "    for (size_t i = 0; i < nr; i++)\n        domstat_store64(&to[2 + i], fields[i]);\n",
    ),
    ("copy: the last word is left out", "i < nr; i++)\n        domstat_store64", "i + 1 < nr; i++)\n        domstat_store64"),
    ("copy: no time", "    domstat_store64(&to[1], now);\n", ""),
    (
        "twins: the second copy is written first",
        "    domstat_write_copy(first, fields, nr, now);\n    if (second)\n"
        "        domstat_write_copy(second, fields, nr, now);\n",
        "    if (second)\n        domstat_write_copy(second, fields, nr, now);\n"
        "    domstat_write_copy(first, fields, nr, now);\n",
    ),
    (
        "twins: the second copy is left out",
        "    if (second)\n        domstat_write_copy(second, fields, nr, now);\n",
        "    (void)second;\n",
    ),
    (
        "twins: both copies begin before the first ends",
        "    domstat_write_copy(first, fields, nr, now);\n    if (second)\n",
        "    if (second)\n        domstat_write_begin((domstat_half *)second);\n"
        "    domstat_write_copy(first, fields, nr, now);\n    if (second)\n",
    ),
    (
        "activate: after the write",
        "    domstat_activate(active, mask);\n    domstat_write_copy(first, fields, nr, now);\n",
        "    domstat_write_copy(first, fields, nr, now);\n    domstat_activate(active, mask);\n",
    ),
    ("activate: a store", "__atomic_fetch_or(active, mask,", "__atomic_store_n(active, mask,"),
    ("deactivate: a store", "__atomic_fetch_and(active, ~mask,", "__atomic_store_n(active, 0,"),
    (
        "deactivate: seq stays even",
        "    domstat_suspend(first);\n    if (second)\n        domstat_suspend(second);\n",
        "    (void)first, (void)second;\n",
    ),
    (
        "deactivate: the bits first",
        "    domstat_suspend(first);\n    if (second)\n        domstat_suspend(second);\n"
        "    __atomic_fetch_and(active, ~mask, __ATOMIC_RELEASE);\n",
        "    __atomic_fetch_and(active, ~mask, __ATOMIC_RELEASE);\n"
        "    domstat_suspend(first);\n    if (second)\n        domstat_suspend(second);\n",
    ),
    (
        "go live: magic before state",
        "    __atomic_store_n(&words[9], DOMSTAT_STATE_LIVE, __ATOMIC_RELEASE);\n"
        "    __atomic_store_n(&words[0], DOMSTAT_DOM_MAGIC, __ATOMIC_RELEASE);\n",
        "    __atomic_store_n(&words[0], DOMSTAT_DOM_MAGIC, __ATOMIC_RELEASE);\n"
        "    __atomic_store_n(&words[9], DOMSTAT_STATE_LIVE, __ATOMIC_RELEASE);\n",
    ),
    (
        "bump: a load and a store",
        "__atomic_fetch_add(notify, 1, __ATOMIC_RELEASE);",
        "__atomic_store_n(notify, *notify + 1, __ATOMIC_RELEASE);",
    ),
    (
        "init: groups are not left in mid-update",
        "            domstat_suspend_all(record, plan, kind);\n",
        "            (void)domstat_suspend_all;\n",
    ),
    ("renew: second copies stay", "        twin = domstat_twin_of(g);\n", "        twin = NULL;\n"),
    (
        "renew: the generation first",
        "    domstat_renew_record(record, plan, kind, next);\n",
        "    __atomic_store_n((domstat_half *)record + 4, next, __ATOMIC_RELEASE);\n"
        "    domstat_renew_record(record, plan, kind, next);\n",
    ),
    ("renew: the generation stays", "__ATOMIC_RELAXED) + 1;\n    domstat_renew", "__ATOMIC_RELAXED);\n    domstat_renew"),
    ("init: no index", "domstat_store32((domstat_half *)record + 1, i);", ""),
    ("init: no incarnation", "words[10] = (uint32_t)incarnation;", ""),
    ("sum: what is not produced counts", "if (a == DOMSTAT_NOT_PRODUCED ||", "if (0 && a == DOMSTAT_NOT_PRODUCED ||"),
    ("sum: it wraps", "return b < DOMSTAT_SATURATED - a ? a + b : DOMSTAT_SATURATED;", "return a + b;"),
    ("bucket: one too high", "64 - (uint32_t)__builtin_clzll(value)", "65 - (uint32_t)__builtin_clzll(value)"),
    ("bucket: none is the last", "return bits < nr - 1 ? bits : nr - 1;", "return bits;"),
    (
        "record: the words before seq is odd",
        "    const uint32_t odd = domstat_write_begin((domstat_half *)group);\n    domstat_store64(&words[1], now);\n",
        "    domstat_store64(&words[1], now);\n    const uint32_t odd = domstat_write_begin((domstat_half *)group);\n",
    ),
    (
        "record: even before the bucket",
        "    domstat_store64(bucket, domstat_plus(*bucket, 1));\n    domstat_write_end((domstat_half *)group, odd);\n",
        "    domstat_write_end((domstat_half *)group, odd);\n    domstat_store64(bucket, domstat_plus(*bucket, 1));\n",
    ),
    ("record: what was there before counts", "is_first && i < 2 + nr", "is_first && i < nr"),
    ("record: every value is the largest", "if (value > words[3])", "if (value)"),
]
NAMED_OF = {
    WRITE: NAMED,
    "requests.h": [
        ("requests: time passes while nothing is in flight", "if (nr == 0)\n        return;\n", ""),
        ("requests: a clock that goes back", "now > to->as_of ? now - to->as_of : 0", "now - to->as_of"),
        ("requests: time does not pass", "    to->as_of += passed;\n", ""),
        ("requests: the integral of one", "passed > DOMSTAT_SATURATED / nr ? DOMSTAT_SATURATED : passed * nr", "passed"),
        ("requests: the integral wraps", "passed > DOMSTAT_SATURATED / nr ? DOMSTAT_SATURATED : passed * nr", "passed * nr"),
        ("submit: not in flight", "    to->in_flight++;\n", ""),
        ("submit: in flight before it was", "    domstat_requests_pass(to, now);\n    to->in_flight++;\n", "    to->in_flight++;\n    domstat_requests_pass(to, now);\n"),
        ("complete: what was not submitted", "    if (to->in_flight == 0)\n        return;\n    domstat_requests_pass", "    domstat_requests_pass"),
        ("complete: stays in flight", "    to->in_flight--;\n", ""),
        ("complete: is not counted", "to->queue.completed = domstat_plus(to->queue.completed, 1);", ""),
    ],
    "threads.h": [
        ("estimator: running may lead by more", "#define DOMSTAT_RUN_AHEAD_NS 12000000u", "#define DOMSTAT_RUN_AHEAD_NS 22000000u"),
        ("estimator: runnable may lead by less", "#define DOMSTAT_WAIT_AHEAD_NS 100000000u", "#define DOMSTAT_WAIT_AHEAD_NS 10000000u"),
        ("estimator: more than has passed", "domstat_at_most(wish, *rest)", "wish"),
        ("estimator: time counts twice", "    *rest -= taken;\n", ""),
        ("estimator: time does not pass", "    e->as_of += rest;\n", ""),
        ("estimator: a counter that moved does not count", "reading->run_ns != before.run_ns || ", ""),
        ("estimator: the reading is forgotten", "    e->last = *reading;\n", ""),
        (
            "estimator: running before runnable",
            "    domstat_take(&rest, &e->runnable, domstat_less(reading->wait_ns, e->runnable));\n"
            "    domstat_take(&rest, &e->running, domstat_less(reading->run_ns, e->running));\n",
            "    domstat_take(&rest, &e->running, domstat_less(reading->run_ns, e->running));\n"
            "    domstat_take(&rest, &e->runnable, domstat_less(reading->wait_ns, e->runnable));\n",
        ),
        ("estimator: seen once is enough", "        if (before.activity == DOMSTAT_WANTS)\n", ""),
        ("estimator: stopped is blocked", "reading->activity == DOMSTAT_STOPPED)", "0)"),
        ("estimator: never stands still", "e->as_of - e->moved_at > DOMSTAT_RUN_AHEAD_NS", "e->as_of < e->moved_at"),
        ("parse: the name ends at its first parenthesis", "strrchr(stat, ')')", "strchr(stat, ')')"),
        ("parse: numbers that are too large", " || errno != 0)\n            return -1;", ")\n            return -1;"),
        ("parse: a stopped thread waits", "name_end[2] == 'T' || name_end[2] == 't'", "name_end[2] == 'T'"),
        ("exits: a name that begins alike", "strcmp(desc.name, names[name]) == 0", "strncmp(desc.name, names[name], strlen(names[name])) == 0"),
        ("exits: any number of descriptors", " ||\n        header[2] > 4096)", ")"),
        ("exits: the next number", "data[at / 8] :", "data[at / 8 + 1] :"),
    ],
}


def code_of(source):
    """The source without comments."""
    code = re.sub(r"[ \t]*/\*.*?\*/", "", source, flags=re.S)
    return re.sub(r"\n(?:[ \t]*\n)+", "\n", code)


def mutants(code, header):
    """Mutants of a header; orderings are write.h's alone."""
    if header == WRITE:
        yield from orderings(code)
    for name, old, new in NAMED_OF[header]:
        if code.count(old) != 1:
            sys.exit(f"{header}: mutant '{name}' is stale: its text is there {code.count(old)} times")
        yield name, code.replace(old, new)


def orderings(code):
    relaxed = 0
    for found in re.finditer(r"__ATOMIC_(\w+)", code):
        line = code[code.rfind("\n", 0, found.start()) + 1 : code.find("\n", found.start())].strip()
        name = re.findall(r"\b(domstat_\w+)\([^;{]*\)\n\{", code[: found.start()])[-1]
        if found[1] == "RELAXED":
            relaxed += 1
        elif line == "__atomic_thread_fence(__ATOMIC_RELEASE);":
            start = code.rfind("\n", 0, found.start()) + 1
            yield f"{name}: fence removed", code[:start] + code[code.find("\n", start) + 1 :]
        elif found[1] == "RELEASE":
            yield f"{name}: {line} relaxed", code[: found.start()] + "__ATOMIC_RELAXED" + code[found.end() :]
        else:
            sys.exit(f"{WRITE}: {line}: an ordering that nothing here knows")
    print(f"{relaxed} accesses are relaxed already, nothing is weaker")


def calls():
    """Inputs of tests/c/counters.c by its arguments: the same each time."""
    dice = random.Random(7)
    words = lambda rows: b"".join(struct.pack(f"={len(row)}Q", *row) for row in rows)
    some = lambda: dice.getrandbits(64) >> dice.randrange(64)
    requests, now = [], 0
    for _ in range(3000):
        now = max(0, now + dice.choice([dice.randrange(1000)] * 20 + [-500, 1 << 40]))
        requests.append((dice.choice([0, 0, 1, 2, 3, 4, 5]), now, some(), some()))
    edges = [0, 1, 7, 1 << 63, (1 << 64) - 3, (1 << 64) - 2, (1 << 64) - 1]
    readings, now, counters = [], 1 << 40, [0, 0, 0]
    for _ in range(5000):
        now += dice.randrange(60_000_000)
        counters = [c + dice.choice([0, 0, dice.randrange(60_000_000)]) for c in counters]
        readings.append((now, *counters, dice.randrange(3)))
    lines = ["10 20 3", "7 (a) R b) S 1", "1 2 3", "7 (a) t 1", "1 2 18446744073709551616", "7 (a) S 1", "1 2", "7 (a) S 1", "1 2 3", "7 a S"]
    return [
        (["requests"], words(requests)),
        # Sums of 2^64 and more in one step.
        (["requests"], words([(0, 0, 0, 0)] * 5 + [(4, 1 << 62, 0, 0)])),
        (["sums"], words([(a, b) for a in edges for b in edges])),
        (["estimator"], words(readings)),
        (["parse"], ("\n".join(lines) + "\n").encode()),
    ]


def descriptors(directory):
    """Files like KVM's descriptors of statistics."""
    names = [b"exits", b"io_exits", b"exits_more", b"pf_fixed", b"hypercalls", b"halt_exits"]
    data = 32 + len(names) * 64
    descs = b"".join(struct.pack("=4I48s", 0, 1 << 16, 8 * i, 0, name) for i, name in enumerate(names))
    good = struct.pack("=8I", 0, 48, len(names), 24, 32, data, 0, 0) + descs + struct.pack("=7Q", *range(100, 107))
    many = struct.pack("=8I", 0, 48, 5000, 24, 32, 32 + 5000 * 64, 0, 0) + descs + bytes(5000 * 64)
    for name, content in (("good", good), ("many", many)):
        (directory / name).write_bytes(content)
        yield ["kvm", str(directory / name)], b""


def numbers_of(program, directory):
    """What tests/c/counters.c says of all calls, with its exit status."""
    runs = [
        subprocess.run([program, *arguments], input=data, capture_output=True, timeout=60, check=False)
        for arguments, data in [*calls(), *descriptors(directory)]
    ]
    return [(run.returncode, run.stdout) for run in runs]


def judge(directory, header, numbers):
    """What catches the mutant of `header` in `directory`: the first check that does, or "" if none;
    or an error. `numbers` are those of the headers as they stand."""

    def compile(source, *arguments):
        command = ["cc", "-std=gnu11", "-O1", "-w", "-pthread", *arguments, "-I", str(directory)]
        built = subprocess.run(
            [*command, str(ROOT / source), "-o", str(directory / "program")],
            capture_output=True, text=True, check=False,
        )
        if built.returncode != 0:
            raise ValueError(built.stderr)
        return directory / "program"

    # The others include neither.
    if header in ("requests.h", "threads.h"):
        return "numbers" if numbers_of(compile("tests/c/counters.c"), directory) != numbers else ""
    program = compile("tests/c/steps.c")
    run = subprocess.run([program], capture_output=True, text=True, check=False)
    if run.stdout != STEPS.read_text():
        return "steps"
    program = compile("abi/c/producer.c", '-DPEER_HEADER="r5.h"')
    region = directory / "region"
    region.unlink(missing_ok=True)
    producer = subprocess.Popen(
        [program, region, "packed", "64", "golden"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    producer.stdout.readline()
    is_golden = region.read_bytes() == GOLDEN.read_bytes()
    producer.communicate()
    if not is_golden:
        return "golden region"
    return "numbers" if numbers_of(compile("tests/c/counters.c"), directory) != numbers else ""


def main():
    with tempfile.TemporaryDirectory(prefix="domstat-mutants-c-") as name:
        directory = pathlib.Path(name)
        for header in HEADERS.iterdir():
            shutil.copy(header, directory)
        program = directory / "counters"
        command = ["cc", "-std=gnu11", "-O1", "-pthread", "-I", str(directory), "-o", str(program)]
        subprocess.run([*command, str(ROOT / "tests/c/counters.c")], check=True)
        numbers = numbers_of(program, directory)
        if any(status or not text for status, text in numbers) or judge(directory, WRITE, numbers):
            print("the checks fail without any mutant", file=sys.stderr)
            return 2
        verdicts = []
        for header in NAMED_OF:
            for name, text in mutants(code_of((HEADERS / header).read_text()), header):
                (directory / header).write_text(text)
                try:
                    caught = judge(directory, header, numbers)
                except ValueError as error:
                    print(f"error     {name}: {error}")
                    verdicts.append(2)
                    continue
                print(f"{'caught' if caught else 'SURVIVED':9} {name}: {caught}")
                verdicts.append(0 if caught else 1)
            shutil.copy(HEADERS / header, directory)
        print(f"{len(verdicts)} mutants, {verdicts.count(0)} caught")
        return max(verdicts, default=2)


if __name__ == "__main__":
    sys.exit(main())
