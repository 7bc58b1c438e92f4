#!/usr/bin/env python3
"""Breaks the writer in C on purpose and holds its checks against each mutant.

Every ordering and fence of layout/include/domstat/write.h is found by parsing and weakened or
removed, one at a time; named mutants change its steps. A mutant is caught if tests/c/steps.c prints
other steps than layout/tests/c_steps.txt has, which ci/loom.sh runs next to readers, or if
abi/c/producer.c writes another golden region. One that does not compile is an error, not a catch.

What catches orderings are the steps as the source takes them, not what a CPU does: on x86-64 a
release store and a relaxed one are the same instruction, and no hunt for torn reads there finds them.

Exit status: 0 if every mutant was caught, 1 if one survived, 2 if one could not be judged.
"""

import pathlib
import re
import shutil
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
        "        __atomic_fetch_or(active, mask, __ATOMIC_RELEASE);\n"
        "    domstat_write_copy(first, fields, nr, now);\n",
        "        domstat_write_copy(first, fields, nr, now);\n"
        "    __atomic_fetch_or(active, mask, __ATOMIC_RELEASE);\n",
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
]


def code_of(source):
    """The source without comments."""
    code = re.sub(r"[ \t]*/\*.*?\*/", "", source, flags=re.S)
    return re.sub(r"\n(?:[ \t]*\n)+", "\n", code)


def mutants(code):
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
    for name, old, new in NAMED:
        if code.count(old) != 1:
            sys.exit(f"{WRITE}: mutant '{name}' is stale: its text is there {code.count(old)} times")
        yield name, code.replace(old, new)


def judge(directory):
    """What catches the headers in `directory`: names of checks, or an error."""

    def compile(source, *arguments):
        command = ["cc", "-std=gnu11", "-O1", "-w", *arguments, "-I", str(directory)]
        built = subprocess.run(
            [*command, str(ROOT / source), "-o", str(directory / "program")],
            capture_output=True, text=True, check=False,
        )
        if built.returncode != 0:
            raise ValueError(built.stderr)
        return directory / "program"

    caught = []
    program = compile("tests/c/steps.c")
    run = subprocess.run([program], capture_output=True, text=True, check=False)
    if run.stdout != STEPS.read_text():
        caught.append("steps")
    program = compile("abi/c/producer.c", '-DPEER_HEADER="r5.h"')
    region = directory / "region"
    region.unlink(missing_ok=True)
    producer = subprocess.Popen(
        [program, region, "packed", "64", "golden"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    producer.stdout.readline()
    if region.read_bytes() != GOLDEN.read_bytes():
        caught.append("golden region")
    producer.communicate()
    return caught


def main():
    with tempfile.TemporaryDirectory(prefix="domstat-mutants-c-") as name:
        directory = pathlib.Path(name)
        for header in HEADERS.iterdir():
            shutil.copy(header, directory)
        if judge(directory):
            print("the checks fail without any mutant", file=sys.stderr)
            return 2
        verdicts = []
        for name, text in mutants(code_of((HEADERS / WRITE).read_text())):
            (directory / WRITE).write_text(text)
            try:
                caught = judge(directory)
            except ValueError as error:
                print(f"error     {name}: {error}")
                verdicts.append(2)
                continue
            print(f"{'caught' if caught else 'SURVIVED':9} {name}: {', '.join(caught)}")
            verdicts.append(0 if caught else 1)
        print(f"{len(verdicts)} mutants, {verdicts.count(0)} caught")
        return max(verdicts, default=2)


if __name__ == "__main__":
    sys.exit(main())
