#!/usr/bin/env python3
"""Counts the instructions of one call of each path of the library, under valgrind's callgrind, and
holds them against ci/instructions.txt.

Exit status: 0 if all are as noted, 1 if one is not, 2 if they could not be counted.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTED = ROOT / "ci" / "instructions.txt"
HEAD = """\
# Instructions of one call on x86-64, without those of an empty one, as callgrind counts them:
# written by ci/callgrind.py --fix. valgrind shows a CPU without AVX-512.
"""
FEW, MANY = 1000, 3000
# What a call from a crate outside the workspace may take, whatever is noted.
LIMITS = {"foreign/vcpu-read": 50}


def fail(message):
    print(f"callgrind.py: {message}", file=sys.stderr)
    sys.exit(2)


def output(*command):
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def counted(program, path, calls):
    said = output("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *program, path,
                  str(calls))
    found = re.search(r"Collected : (\d+)", said)
    return int(found[1]) if found else fail(f"valgrind did not say how many:\n{said}")


def counts_of(program, paths):
    """Instructions of one call of each path, without those of an empty one."""
    counts = {}
    for path in paths:
        calls = counted(program, path, MANY) - counted(program, path, FEW)
        counts[path] = round(calls / (MANY - FEW))
    return {path: count - counts["empty"] for path, count in counts.items() if path != "empty"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fix", action="store_true", help="write ci/instructions.txt again")
    parser.add_argument("--margin", type=float, default=3, help="percent that a count may be off")
    options = parser.parse_args()

    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    output("cargo", "build", "--locked", "--release", "-p", "domstat-bench", "--bin", "domstat-paths")
    program = target / "release" / "domstat-paths"
    counts = counts_of([program], output(program, "--list").split())
    # As users build it: a package of its own, with the default release profile.
    output("cargo", "build", "--locked", "--release", "--manifest-path", "bench/foreign/Cargo.toml",
           "--target-dir", target / "foreign")
    program = target / "foreign" / "release" / "domstat-foreign"
    foreign = counts_of([program, "count"], output(program, "--list").split())
    counts |= {f"foreign/{path}": count for path, count in foreign.items()}
    for path, limit in LIMITS.items():
        if counts.get(path, limit + 1) > limit:
            print(f"{path}: {counts.get(path)} instructions, at most {limit} allowed")
            return 1

    if options.fix:
        lines = [f"{path:26}{count:6}\n" for path, count in counts.items()]
        NOTED.write_text(HEAD + "".join(lines))
        return 0
    lines = [line.split() for line in NOTED.read_text().splitlines() if not line.startswith("#")]
    noted = {path: int(count) for path, count in lines}
    if noted.keys() != counts.keys():
        fail(f"{NOTED} lists other paths; run ci/callgrind.py --fix")
    status = 0
    for path, count in counts.items():
        allowed = max(2, noted[path] * options.margin / 100)
        verdict = "ok"
        if count > noted[path] + allowed:
            verdict, status = "MORE", 1
        elif count < noted[path] - allowed:
            verdict, status = "less: note it with ci/callgrind.py --fix", 1
        print(f"{path:26}{count:6}  noted {noted[path]:6}  {verdict}")
    return status


if __name__ == "__main__":
    sys.exit(main())
