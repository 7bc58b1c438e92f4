#!/usr/bin/env python3
"""Judges what a scenario wrote to the serial console.

    judge.py agree LOG        dom0/agree.sh: whether everybody said the same
    judge.py patched LOG      dom0/patched.sh: what a hypervisor with the patches writes
    judge.py recording LOG    prints the recording that was made in dom0/agree.sh
"""

import importlib
import sys

from serial import Serial

if len(sys.argv) != 3 or sys.argv[1] not in ("agree", "patched", "recording"):
    sys.exit(__doc__)
log = Serial(sys.argv[2])
if sys.argv[1] == "recording":
    for (_, kind), text in log.blocks.items():
        if kind == "record":
            print(text)
else:
    importlib.import_module(sys.argv[1]).judge(log)
    print("\n" + log.table())
    log.ends()
