"""Reads what a scenario wrote to the serial console, and collects verdicts."""

import json
import re
import sys


class Serial:
    """The observations of a run: text by (moment, kind)."""

    def __init__(self, path):
        self.text = open(path, encoding="utf-8", errors="replace", newline="").read().replace("\r", "")
        self.blocks, self.codes = {}, {}
        key, lines = None, []
        for line in self.text.split("\n"):
            if match := re.fullmatch(r"@begin (\S+) (\S+)", line):
                key, lines = match.groups(), []
            elif (match := re.fullmatch(r"@end (\d+)", line)) and key:
                self.blocks[key], self.codes[key] = "\n".join(lines), int(match[1])
                key = None
            elif key and not line.startswith("(XEN)"):
                lines.append(line)
        self.rows, self.failures = [], []

    def get(self, moment, kind):
        return self.blocks.get((moment, kind), "")

    def json(self, moment, kind="domstat"):
        try:
            return json.loads(self.get(moment, kind))
        except ValueError:
            return None

    def expect(self, what, ok, seen=""):
        if not ok:
            self.failures.append(f"{what}: {seen}")
        print(f"{'ok  ' if ok else 'FAIL'} {what}{f': {seen}' if seen != '' else ''}")
        return ok

    def agree(self, what, domstat, **others):
        """All others say what domstat says; a row of the table."""
        self.rows.append((what, domstat, others))
        same = domstat is not None and all(other == domstat for other in others.values())
        self.expect(f"{what} agrees", same, f"domstat {domstat}, {others}")

    def within(self, what, domstat, slack, **others):
        """All others say what domstat says, give or take `slack`."""
        self.rows.append((what, domstat, others))
        near = domstat is not None and all(
            other is not None and abs(other - domstat) <= slack for other in others.values())
        self.expect(f"{what} agrees within {slack}", near, f"domstat {domstat}, {others}")

    def table(self):
        columns = []
        for _, _, others in self.rows:
            columns += [name for name in others if name not in columns]
        lines = ["| figure | domstat | " + " | ".join(columns) + " |",
                 "|---|---|" + "---|" * len(columns)]
        for what, domstat, others in self.rows:
            cells = [str(others.get(name, "")) for name in columns]
            lines.append(f"| {what} | {domstat} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def ends(self):
        for line in re.findall(r"^@timeout .*", self.text, re.M):
            self.expect("nothing is waited for in vain", False, line)
        if self.failures:
            print(f"\n{len(self.failures)} of the checks failed", file=sys.stderr)
            sys.exit(1)


def fields(record, group):
    """The fields of a group; None if it is not active."""
    value = (record or {}).get("groups", {}).get(group, {})
    return value.get("fields") if value.get("status") == "active" else None


def generation(record, group):
    return record["groups"][group].get("generation")


def vcpu(domain, index):
    return next((v for v in (domain or {}).get("vcpus", []) if v["index"] == index), None)


def named(domain, array, name):
    """The record of a device with that name."""
    for record in (domain or {}).get(array, []):
        identity = fields(record, "identity")
        if identity and identity["name"] == name:
            return record
    return None


def vcpu_list(text):
    """xl vcpu-list: state letters and seconds by vCPU."""
    rows = {}
    for line in text.split("\n"):
        if match := re.match(r"(\S+) +(\d+) +(\d+) +(\S+) +(\S{3}) +([\d.]+)", line):
            rows[int(match[3])] = (match[5], float(match[6]))
    return rows
