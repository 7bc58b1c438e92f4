#!/usr/bin/env python3
"""Writes the vectors: regions as files, and the answers that a reader must give.

    vectors/generate.py            writes vectors/good, vectors/bad and vectors/index.json
    vectors/generate.py --check    compares them with what it would write

Bytes and answers come from one description (model.py); no reader and no writer of this project takes part.
"""

import json
import struct
import sys
from pathlib import Path

import bad
import good

HERE = Path(__file__).resolve().parent


def files():
    """Name and bytes of every file."""
    index = []
    for folder, vectors in (("good", good.vectors()), ("bad", bad.vectors())):
        for vector in vectors:
            name, data = vector["name"], vector.pop("bytes")
            path = f"{folder}/{name}"
            yield f"{path}.json", lines({**vector, "length": str(len(data))}, 3).encode() + b"\n"
            # Zeros at the end are left out: the length says how many there are.
            yield f"{path}.bin", data.rstrip(b"\0") or data[:1]
            index.append({"path": path, "verdict": vector["verdict"], "clauses": vector["clauses"]})
    paths = [entry["path"] for entry in index]
    assert len(set(paths)) == len(paths), "a name stands twice"
    yield "index.json", lines(index, 1).encode() + b"\n"


def lines(value, depth):
    """JSON with a line for each entry down to a depth, and one line for what is deeper."""
    if depth == 0 or not value or not isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, list) and value and isinstance(value[0], str):
        return json.dumps(value)
    if isinstance(value, list):
        return "[\n" + ",\n".join(lines(item, 0) for item in value) + "\n]"
    entries = (f"{json.dumps(key)}: {lines(item, depth - 1)}" for key, item in value.items())
    return "{\n" + ",\n".join(entries) + "\n}"


def main():
    made = dict(files())
    if "--check" in sys.argv:
        there = {str(p.relative_to(HERE)) for folder in ("good", "bad") for p in (HERE / folder).iterdir()}
        wrong = sorted(there.symmetric_difference(set(made) - {"index.json"}))
        wrong += [path for path, data in made.items()
                  if path not in wrong and (HERE / path).read_bytes() != data]
        for path in wrong:
            print(f"vectors/{path} is not what generate.py makes", file=sys.stderr)
        return 1 if wrong else 0
    for folder in ("good", "bad"):
        (HERE / folder).mkdir(exist_ok=True)
        for path in (HERE / folder).iterdir():
            path.unlink()
    for path, data in made.items():
        (HERE / path).write_bytes(data)
    print(f"{len(made)} files, {sum(map(len, made.values()))} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
