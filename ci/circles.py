#!/usr/bin/env python3
"""Fails if modules of a crate import each other in a circle. A module and its children count as one."""
import re
import sys
from pathlib import Path

CRATES = ["layout", "abi", "producer", "consumer", "invariant-checker", "sources", "exporter", "cli"]


def modules(src):
    """Path in the crate -> file, of all modules but roots and tests."""
    found = {}
    for file in src.rglob("*.rs"):
        path = file.relative_to(src).with_suffix("").parts
        path = path[:-1] if path[-1] == "mod" else path
        if path and path not in (("lib",), ("main",)) and not any("tests" in part for part in path):
            found[path] = file
    return found


def expand(tree):
    """`a::{b, c::{d}}` -> a::b, a::c::d."""
    start = tree.find("{")
    if start < 0:
        return [tree.split(" as ")[0]]
    parts, depth, part = [], 0, ""
    for char in tree[start + 1 : tree.rfind("}")] + ",":
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += char
    return [tree[:start] + path for part in parts if part for path in expand(part)]


def absolute(path, module):
    parts = re.sub(r"\s", "", path).split("::")
    if parts[0] == "crate":
        return parts[1:]
    here = list(module)
    while parts and parts[0] in ("self", "super"):
        here = here[:-1] if parts[0] == "super" else here
        parts = parts[1:]
    return here + parts


def imports(module, text, known):
    text = re.split(r"#\[cfg\(test\)\]\s*mod ", text)[0]
    text = re.sub(r"//.*", "", text)
    paths = [p for use in re.findall(r"\buse\s+((?:crate|super|self)::[^;]+);", text) for p in expand(use)]
    paths += re.findall(r"\bcrate(?:::[a-z_0-9]+)+(?=::)", text)
    for path in paths:
        target = tuple(absolute(path, module))
        while target and target not in known:
            target = target[:-1]
        related = target == module[: len(target)] or module == target[: len(module)]
        if target and not related:
            yield target


def circle(graph):
    """A path that ends where it began, if there is one."""
    done = set()

    def walk(node, path):
        if node in path:
            return path[path.index(node) :] + [node]
        if node in done:
            return None
        found = next(filter(None, (walk(next_, path + [node]) for next_ in sorted(graph[node]))), None)
        done.add(node)
        return found

    return next(filter(None, (walk(node, []) for node in sorted(graph))), None)


def main():
    root = Path(__file__).resolve().parent.parent
    count = 0
    for crate in CRATES:
        known = modules(root / crate / "src")
        if not known:
            sys.exit(f"{crate} has no modules: mend the list in {sys.argv[0]}")
        graph = {module: set(imports(module, file.read_text(), known)) for module, file in known.items()}
        count += sum(map(len, graph.values()))
        found = circle(graph)
        if found:
            sys.exit(f"{crate}: " + " -> ".join("::".join(module) for module in found))
    assert circle({"a": {"b"}, "b": {"a"}}), "a circle that is there was not found"
    print(f"no circle in {count} imports of {len(CRATES)} crates")


main()
