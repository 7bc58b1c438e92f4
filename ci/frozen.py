#!/usr/bin/env python3
"""Compares a layout (JSON on stdin) with the frozen one in the file named: every frozen value must
be there, unchanged, and lists must be as long as they were. Values of new names are ignored.

Exit status: 0 if nothing changed, 1 if something did.
"""

import json
import sys


def changes(frozen, now, at=""):
    """Yields a line for each value that is not as it was frozen."""
    if isinstance(frozen, dict) and isinstance(now, dict):
        for key, value in frozen.items():
            if key in now:
                yield from changes(value, now[key], f"{at}.{key}")
            else:
                yield f"{at}.{key}: missing"
    elif isinstance(frozen, list) and isinstance(now, list):
        if len(frozen) != len(now):
            yield f"{at}: {len(frozen)} entries when frozen, {len(now)} now"
        for i, (old, new) in enumerate(zip(frozen, now)):
            name = old.get("name", i) if isinstance(old, dict) else i
            yield from changes(old, new, f"{at}[{name}]")
    elif type(frozen) is not type(now) or frozen != now:
        yield f"{at}: {frozen!r} when frozen, {now!r} now"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        frozen = json.load(file)
    found = list(changes(frozen, json.load(sys.stdin)))
    for line in found:
        print(f"{sys.argv[1]}: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
