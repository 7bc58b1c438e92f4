#!/usr/bin/env python3
"""Breaks the seqlock protocol on purpose and holds the models of ci/loom.sh against each mutant.

Every ordering and every fence of layout/src/seqlock.rs is found by parsing and weakened or
removed, one at a time; named mutants change the steps of the protocol. A mutant is caught if it
compiles and a model fails; one that does not compile is an error, not a catch. Relaxed accesses
are listed: nothing is weaker.

Exit status: 0 if every mutant was caught, 1 if one survived, 2 if one could not be judged.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SEQLOCK = "layout/src/seqlock.rs"
MODELS = "layout/tests/loom.rs"
TWINS = "layout/src/twins.rs"
FIRST = "        self.first.write(updated_ns, from);\n"
FIRST_WORD = "        self.first.write_word(updated_ns, index, raw);\n"
SECOND_WORD = (
    "        if let Some(mut second) = self.second.get() {\n"
    "            second.write_word(updated_ns, index, raw);\n        }\n"
)

FIRST_WORDS = "        self.first.write_words(updated_ns, at, raw);\n"
SECOND_WORDS = (
    "        if let Some(mut second) = self.second.get() {\n"
    "            second.write_words(updated_ns, at, raw);\n        }\n"
)

# What is next weaker, of a load, a store or a read-modify-write.
WEAKER = {
    "Release": ["Relaxed"],
    "Acquire": ["Relaxed"],
    "AcqRel": ["Acquire", "Release"],
    "SeqCst": ["AcqRel"],
}

# Models that take long: run only where the others find nothing.
SLOW = [
    "three_tenants_are_not_mixed",
    "tenants_are_not_mixed_in_a_record_copied_at_once",
    "twins_beside_two_writes_never_go_back",
]

# Steps changed: name, file, what stands there (exactly once), what stands there in the mutant.
STEPS = [
    ("write_begin: seq stays even", SEQLOCK, ".wrapping_add(1) | 1;", ".wrapping_add(2) & !1;"),
    (
        "write_begin: fence before the odd store",
        SEQLOCK,
        "    seq.store(odd.to_le(), Ordering::Relaxed);\n    fence(Ordering::Release);\n",
        "    fence(Ordering::Release);\n    seq.store(odd.to_le(), Ordering::Relaxed);\n",
    ),
    ("write_end: the number before", SEQLOCK, "odd.wrapping_add(1)", "odd.wrapping_sub(1)"),
    ("read_begin: odd is taken", SEQLOCK, "(begin & 1 == 0).then_some(begin)", "Some(begin)"),
    (
        "read_begin: fence before the look",
        SEQLOCK,
        "    let begin = u32::from_le(seq.load(Ordering::Relaxed));\n    fence(Ordering::Acquire);\n",
        "    fence(Ordering::Acquire);\n    let begin = u32::from_le(seq.load(Ordering::Relaxed));\n",
    ),
    (
        "read_retry: always false",
        SEQLOCK,
        "u32::from_le(seq.load(Ordering::Relaxed)) != begin",
        "u32::from_le(seq.load(Ordering::Relaxed)) != begin && false",
    ),
    (
        "read_retry: only oddness is looked at",
        SEQLOCK,
        "u32::from_le(seq.load(Ordering::Relaxed)) != begin",
        "u32::from_le(seq.load(Ordering::Relaxed)) & 1 != begin & 1",
    ),
    (
        "read_retry: fence after the look",
        SEQLOCK,
        "    fence(Ordering::Acquire);\n    u32::from_le(seq.load(Ordering::Relaxed)) != begin\n",
        "    let now = u32::from_le(seq.load(Ordering::Relaxed));\n"
        "    fence(Ordering::Acquire);\n    now != begin\n",
    ),
    (
        "many looks: odd is taken",
        SEQLOCK,
        "self.changed == 0 && u32::from_le(self.odd) & 1 == 0",
        "self.changed == 0",
    ),
    (
        "many looks: changes are not looked at",
        SEQLOCK,
        "self.changed == 0 && u32::from_le(self.odd) & 1 == 0",
        "u32::from_le(self.odd) & 1 == 0",
    ),
    (
        "many looks: only the last change counts",
        SEQLOCK,
        "self.changed |= seq.load",
        "self.changed = seq.load",
    ),
    (
        "many looks: what is not active counts",
        SEQLOCK,
        "self.odd |= begin & active;",
        "self.odd |= begin | active * 0;",
    ),
    (
        "published: fence before the look",
        SEQLOCK,
        "    let word = u32::from_le(place.load(Ordering::Relaxed));\n    fence(Ordering::Acquire);\n",
        "    fence(Ordering::Acquire);\n    let word = u32::from_le(place.load(Ordering::Relaxed));\n",
    ),
    (
        "announce: a load and a store",
        SEQLOCK,
        "        match place.compare_exchange_weak(old, new, Ordering::Release, Ordering::Relaxed) {\n"
        "            Ok(_) => return,\n            Err(now) => old = now,\n        }\n",
        "        place.store(new, Ordering::Release);\n"
        "        if new != old {\n            return;\n        }\n        old = new;\n",
    ),
    (
        "group write: even before the words",
        MODELS,
        "        store_words(&self.words, &[n; N]);\n        write_end(&self.seq, odd);\n",
        "        write_end(&self.seq, odd);\n        store_words(&self.words, &[n; N]);\n",
    ),
    (
        "twins: both copies begin before the first ends",
        TWINS,
        FIRST,
        "        if let Some(mut second) = self.second.get() {\n            second.suspend();\n        }\n"
        + FIRST,
    ),
    (
        "twins: the second copy is written first",
        TWINS,
        FIRST_WORD + SECOND_WORD,
        SECOND_WORD + FIRST_WORD,
    ),
    (
        "twins: some words of the second copy are written first",
        TWINS,
        FIRST_WORDS + SECOND_WORDS,
        SECOND_WORDS + FIRST_WORDS,
    ),
    (
        "group write of some words: even before the last",
        MODELS,
        "            store_words(std::slice::from_ref(&self.group.words[at]), &[raw]);\n        }\n"
        "        write_end(&self.group.seq, odd);\n",
        "            write_end(&self.group.seq, odd);\n"
        "            store_words(std::slice::from_ref(&self.group.words[at]), &[raw]);\n        }\n",
    ),
    (
        "create: groups are not left in mid-update",
        MODELS,
        "        publish(&self.size, 1);\n        self.group.suspend();\n",
        "        publish(&self.size, 1);\n",
    ),
    (
        "publish: magic before state",
        MODELS,
        "        publish(&self.state, LIVE);\n        publish(&self.magic, MAGIC);\n",
        "        publish(&self.magic, MAGIC);\n        publish(&self.state, LIVE);\n",
    ),
    (
        "publish: before the groups",
        MODELS,
        "                writer.write(10);\n                writer.publish();\n",
        "                writer.publish();\n                writer.write(10);\n",
    ),
    (
        "deactivate: seq stays even",
        MODELS,
        "        self.group.suspend();\n        self.clear_bits(1);\n",
        "        self.clear_bits(1);\n",
    ),
    (
        "renew: generation before the groups are off",
        MODELS,
        "        self.deactivate();\n        let next = self.generation.load(Ordering::Relaxed) + 1;\n"
        "        publish(&self.generation, next);\n",
        "        let next = self.generation.load(Ordering::Relaxed) + 1;\n"
        "        publish(&self.generation, next);\n        self.deactivate();\n",
    ),
    (
        "read: generation after the second look",
        MODELS,
        "            Some((words, (_, generation))) => Found::Active { generation, n: whole(words) },\n",
        "            Some((words, _)) => {\n"
        "                let generation = self.generation.load(Ordering::Relaxed);\n"
        "                Found::Active { generation, n: whole(words) }\n            }\n",
    ),
    (
        "record copied at once: generation after the second looks",
        MODELS,
        "        looks.whole().then_some((generation, found))\n",
        "        let later = self.generation.load(Ordering::Relaxed) + generation * 0;\n"
        "        looks.whole().then_some((later, found))\n",
    ),
    (
        "retire: before the last write",
        MODELS,
        "                writer.write(11);\n                publish(&writer.state, RETIRED);\n",
        "                publish(&writer.state, RETIRED);\n                writer.write(11);\n",
    ),
    (
        "announce: before the event",
        MODELS,
        "                writer.1.store(1, Ordering::Relaxed);\n                announce(&writer.0);\n",
        "                announce(&writer.0);\n                writer.1.store(1, Ordering::Relaxed);\n",
    ),
]


def code_of(source):
    """The source without comments, at the same line numbers, ends of lines kept."""
    return re.sub(r"[ \t]*//[^\n]*", "", source)


def function_at(code, position):
    """Name of the function in which `position` lies."""
    names = re.findall(r"\bfn (\w+)", code[:position])
    return names[-1] if names else "?"


def parsed_mutants(code):
    """Mutants of every ordering, and the accesses that cannot be weakened."""
    mutants, relaxed = [], []
    for found in re.finditer(r"Ordering::(\w+)", code):
        ordering = found[1]
        before = code[: found.start()]
        line = before.count("\n") + 1
        where = f"{function_at(code, found.start())}, line {line}"
        start = before.rfind("\n") + 1
        end = code.find("\n", found.start()) + 1
        statement = code[start:end]
        if re.search(r"\bfence\($", before):
            if statement.strip() != f"fence(Ordering::{ordering});":
                sys.exit(f"{SEQLOCK}:{line}: a fence that does not stand alone: {statement.strip()}")
            mutants.append((f"{where}: {ordering} fence removed", code[:start] + "\n" + code[end:]))
            continue
        access = re.findall(r"\b(load|store|compare_exchange\w*|swap|fetch_\w+)\(", before)
        access = access[-1] if access else "?"
        if access.startswith("compare_exchange"):
            # The success ordering is the first of the two.
            since = before[before.rfind(access):].count("Ordering::")
            access += ", failure" if since else ", success"
        if ordering == "Relaxed":
            relaxed.append(f"{where}: {access}")
            continue
        for weaker in WEAKER[ordering]:
            if access == "load" and weaker == "Release":
                continue
            mutated = before + f"Ordering::{weaker}" + code[found.end():]
            mutants.append((f"{where}: {access} {ordering} -> {weaker}", mutated))
    return mutants, relaxed


def step_mutants(codes):
    for name, path, old, new in STEPS:
        code = re.sub(r"\n(?:[ \t]*\n)+", "\n", codes[path])
        count = code.count(old)
        if count != 1:
            sys.exit(f"{path}: mutant '{name}' is stale: its text is there {count} times")
        yield name, path, code.replace(old, new)


def copy_workspace(to):
    """The layout crate, tracked or not yet, and what Cargo needs, as a workspace of its own."""
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "layout"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()
    for name in [*files, "Cargo.lock", *(n for n in ["clippy.toml"] if (ROOT / n).exists())]:
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)
    manifest = (ROOT / "Cargo.toml").read_text()
    manifest, changed = re.subn(r"(?ms)^members = \[.*?\]", 'members = ["layout"]', manifest)
    if changed != 1:
        sys.exit("Cargo.toml: no list of members")
    manifest = re.sub(r"(?ms)^exclude = \[.*?\]\n", "", manifest)
    (to / "Cargo.toml").write_text(manifest)


def cargo(workspace, target, *arguments):
    env = dict(os.environ, RUSTFLAGS="--cfg loom", CARGO_TARGET_DIR=str(target), RUST_BACKTRACE="0")
    command = ["cargo", "test", "-p", "domstat-layout", "--test", "loom", "--release", *arguments]
    return subprocess.run(
        command, cwd=workspace, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def judge(workspace, target):
    """Models that fail, the slow ones only if no other did; or an error."""
    built = cargo(workspace, target, "--no-run")
    if built.returncode != 0:
        return None, "does not compile:\n" + built.stdout
    skips = [argument for model in SLOW for argument in ("--skip", model)]
    for models in (skips, SLOW):
        run = cargo(workspace, target, "--", "--exact", *models)
        failed = sorted(re.findall(r"^test (\S+) \.\.\. FAILED$", run.stdout, re.M))
        if run.returncode == 0 and re.search(r"^test result: ok\. [1-9]", run.stdout, re.M):
            continue
        if not failed or "test result: FAILED" not in run.stdout:
            return None, "ended without a verdict:\n" + run.stdout
        return failed, None
    return [], None


class Place:
    """A workspace for one mutant at a time, and where it is built."""

    def __init__(self, workspace, target):
        self.workspace, self.target = workspace, target
        workspace.mkdir(parents=True)
        copy_workspace(workspace)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.add_argument("--list", action="store_true", help="list the mutants, run none")
    parser.add_argument("--orderings", action="store_true",
                        help="only those of orderings and fences, not of steps")
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    parser.add_argument("--judged", action="store_true",
                        help="ci/loom.sh has just run: do not run the models without a mutant")
    parser.add_argument("--jobs", type=int, default=max(1, min(4, os.cpu_count() or 1)),
                        help="how many mutants at once")
    options = parser.parse_args()

    sources = {path: (ROOT / path).read_text() for path in (SEQLOCK, MODELS, TWINS)}
    codes = {path: code_of(source) for path, source in sources.items()}
    parsed, relaxed = parsed_mutants(codes[SEQLOCK])
    steps = list(step_mutants(codes))
    mutants = [(name, SEQLOCK, text) for name, text in parsed]
    mutants += [] if options.orderings else steps
    mutants = [mutant for mutant in mutants if options.only in mutant[0]]
    if options.list:
        print(*(name for name, _, _ in mutants), sep="\n")
        return 0

    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "mutants"
    with tempfile.TemporaryDirectory(prefix="domstat-mutants-") as directory:
        places = [Place(pathlib.Path(directory) / str(n), target / str(n)) for n in range(options.jobs)]
        places[0].target.mkdir(parents=True, exist_ok=True)
        if options.judged:
            built = cargo(places[0].workspace, places[0].target, "--no-run")
            failed, error = ([], None) if built.returncode == 0 else (None, built.stdout)
        else:
            failed, error = judge(places[0].workspace, places[0].target)
        if failed != []:
            print(error or f"fail without any mutant: {failed}", file=sys.stderr)
            return 2
        free = queue.SimpleQueue()
        for place in places:
            # What the crates of others compile to is the same everywhere.
            if place is not places[0]:
                shutil.rmtree(place.target, ignore_errors=True)
                shutil.copytree(places[0].target, place.target, copy_function=shutil.copy2)
            free.put(place)

        def one(mutant):
            name, path, text = mutant
            place = free.get()
            begin = time.monotonic()
            (place.workspace / path).write_text(text)
            failed, error = judge(place.workspace, place.target)
            (place.workspace / path).write_text(sources[path])
            free.put(place)
            seconds = round(time.monotonic() - begin, 1)
            verdict = "error" if failed is None else "caught" if failed else "SURVIVED"
            print(f"{verdict:8} {seconds:5} s  {name}", file=sys.stderr, flush=True)
            if error:
                print(error, file=sys.stderr)
            return {"mutant": name, "file": path, "verdict": verdict, "models": failed or [],
                    "seconds": seconds}

        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            rows = list(pool.map(one, mutants))

    if options.json:
        print(json.dumps({"mutants": rows, "relaxed": relaxed}, indent=1))
    else:
        print("\n| mutant | verdict | caught by |\n|---|---|---|")
        for row in rows:
            print(f"| {row['mutant']} | {row['verdict']} | {', '.join(row['models'])} |")
        print("\nRelaxed already, nothing is weaker:")
        print(*(f"  {access}" for access in relaxed), sep="\n")
    verdicts = {row["verdict"] for row in rows}
    return 2 if "error" in verdicts else 1 if "SURVIVED" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
