"""QEMU processes with a daemon that observes them, for tools that measure and judge it."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOMSTAT = os.environ.get("DOMSTAT", str(ROOT / "target/release/domstat"))
QEMU = os.environ.get("QEMU", "qemu-system-x86_64").split()
DIR = Path(tempfile.mkdtemp(prefix="domstat-figures-"))
ENV = dict(os.environ, DOMSTAT_DIR=str(DIR / "run"))
ACCEL = "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"
STARTED = []


def code():
    """The boot ROM of the tests: writes sector after sector of an IDE disk."""
    source = (ROOT / "cli/tests/common/vm.rs").read_text()
    body = re.search(r"const CODE[^=]*= \[(.*?)\];", source, re.S).group(1)
    return bytes(int(x, 16) for x in re.findall(r"0x([0-9a-f]{2})", body))


def rom(name, spin=False):
    image = bytearray(b"\xf4" * (64 << 10))
    program = code()
    image[: len(program)] = program
    image[6:10] = b"\xff" * 4
    image[0xFFF0:0xFFF3] = b"\xeb\xfe\xf4" if spin else b"\xe9\x0d\x00"
    path = DIR / name
    path.write_bytes(image)
    return path


def start(*args, **kw):
    process = subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL, **kw)
    STARTED.append(process)
    return process


def vm(name, bios, *more, accel=ACCEL, memory=16):
    (DIR / "qmp").mkdir(exist_ok=True)
    return start(
        *QEMU, "-accel", accel, "-m", memory, "-nodefaults", "-display", "none",
        "-bios", bios, "-name", f"{name},debug-threads=on",
        "-qmp", f"unix:{DIR}/qmp/{name}.qmp,server=on,wait=off",
        "-qmp", f"unix:{DIR}/{name}.own,server=on,wait=off", *more,
        stderr=subprocess.DEVNULL,
    )


def disk(name, size=32 << 20):
    path = DIR / name
    with open(path, "wb") as f:
        f.truncate(size)
    return ["-drive", f"if=ide,format=raw,file={path}"]


def daemon(*args):
    log = open(DIR / "daemon.log", "w")
    return start(DOMSTAT, "run", "qemu", *args, env=ENV, stderr=log)


def domstat(*args, check=True):
    return subprocess.run([DOMSTAT, *args], env=ENV, capture_output=True, text=True, check=check).stdout


def show(name):
    return json.loads(domstat("show", name, "--json"))


def until(what, ready, limit=60):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            found = ready()
        except (subprocess.CalledProcessError, OSError):
            found = None
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit(f"waited too long for {what}")


class Lines:
    """JSON, line by line, over a Unix socket."""

    def __init__(self, path):
        self.socket = until(path, lambda: self.connect(path))
        # Not "rw": a text file that is written to forgets what it has read ahead.
        self.file = self.socket.makefile("r")

    @staticmethod
    def connect(path):
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(path))
        return s

    def say(self, value):
        self.socket.sendall(json.dumps(value).encode() + b"\n")

    def take(self):
        line = self.file.readline()
        return json.loads(line) if line else None


class Qmp(Lines):
    """A QMP connection of our own."""

    def __init__(self, path):
        super().__init__(path)
        self.take()
        self.events = []
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        return self.ask(command, {k.replace("_", "-"): v for k, v in arguments.items()})

    def ask(self, command, arguments):
        self.say({"execute": command, "arguments": arguments})
        while True:
            answer = self.take()
            if "event" in answer:
                self.events.append(answer)
            elif "return" in answer:
                return answer["return"]
            else:
                raise SystemExit(f"{command}: {answer}")


def end():
    """Ends every process that was started."""
    for process in reversed(STARTED):
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
    for process in STARTED:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main(verbs, doc):
    """Runs the verb of the command line, ends what it started, and exits with 1 if it saw a broken promise."""
    verbs = {f.__name__: f for f in verbs}
    if len(sys.argv) < 2 or sys.argv[1] not in verbs:
        raise SystemExit(doc)
    try:
        kept = verbs[sys.argv[1]](*map(int, sys.argv[2:]))
    finally:
        end()
        subprocess.run(["rm", "-rf", str(DIR)])
    raise SystemExit(0 if kept else 1)
