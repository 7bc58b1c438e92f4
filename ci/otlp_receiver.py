"""Pushes a domain and holds the receiver's answers against what the region had before and after."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

DOMSTAT, RECEIVER = sys.argv[1:]


def get(path, **query):
    with urllib.request.urlopen(f"{RECEIVER}{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
        return answer.read()


def wait_for(what, ready):
    for _ in range(300):
        try:
            if ready():
                return
        except (OSError, ValueError, KeyError, IndexError, subprocess.CalledProcessError):
            pass
        time.sleep(0.1)
    sys.exit(f"{what} is not there after 30 s")


def sample():
    run = subprocess.run([DOMSTAT, "show", "web1", "--json"], check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def fields(record, group):
    return record["groups"][group]["fields"]


def quantity(domain):
    """What is compared, by name: cumulative, so a push lies between two looks."""
    disk, hist = domain["blks"][0], domain["blk_hists"][0]
    latency = fields(hist, "rd_latency")
    found = {
        "domstat.block.reads": fields(disk, "io")["rd_req"],
        "domstat.block.read": fields(disk, "io")["rd_bytes"],
        "domstat.block.read.latency_count": sum(latency["ns"]),
        "domstat.block.read.latency_sum": latency["sum_ns"],
        "domstat.block.read.size_count": sum(fields(hist, "rd_size")["bytes"]),
    }
    for vcpu in domain["vcpus"]:
        for state in ("running", "runnable"):
            ns = fields(vcpu, "runstate")[f"{state}_ns"]
            found[f"domstat.vcpu.state.time vcpu={vcpu['index']} state={state}"] = ns / 1e9
    return found


def answered(name):
    name, *labels = name.split()
    selector = ",".join([f'__name__="{name}"'] + ['{}="{}"'.format(*label.split("=")) for label in labels])
    result = json.loads(get("/api/v1/query", query=f"{{{selector}}}"))["data"]["result"]
    return float(result[0]["value"][1]) if len(result) == 1 else None


def main():
    wait_for("the receiver", lambda: get("/health"))
    wait_for("the domain's first reads", lambda: quantity(sample())["domstat.block.reads"] > 100)
    before = quantity(sample())
    subprocess.run([DOMSTAT, "push", "--to", f"{RECEIVER}/opentelemetry/v1/metrics", "--count", "1",
                    "--include", "default,vcpu_hist,blk_hist"], check=True)
    after = quantity(sample())
    get("/internal/force_flush")
    wait_for("what was pushed", lambda: answered("domstat.block.reads") is not None)
    wrong = 0
    for name, low in before.items():
        value, high = answered(name), after[name]
        # Numbers of 64 bits are doubles there; running time is extrapolated to the push.
        slack = 1e-9 * high + (0.3 if "state.time" in name else 0)
        good = value is not None and low - slack <= value <= high + slack
        wrong += not good
        print(f"{'ok  ' if good else 'FAIL'} {name}: {low} <= {value} <= {high}")
    sys.exit(f"{wrong} differ" if wrong else 0)


main()
