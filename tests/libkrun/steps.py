"""Instructions that a thread executes in user space from one call of a system call to the next, by stepping
through them one at a time. What the kernel executes is not among them.
"""
import ctypes
import os
import signal

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.restype = ctypes.c_long
LIBC.ptrace.argtypes = [ctypes.c_long] * 4

PEEKTEXT, PEEKUSER, SINGLESTEP, DETACH, SEIZE, INTERRUPT = 1, 3, 9, 17, 0x4206, 0x4207
# Offsets in `struct user`.
RAX, RSI, RIP = 80, 104, 128
SYSCALL = 0x050F
WALL = 0x40000000


def ptrace(request, tid, address=0, data=0):
    ctypes.set_errno(0)
    result = LIBC.ptrace(request, tid, address, data)
    if result == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), f"ptrace {request} of thread {tid}")
    return result


def wait(tid):
    """The signal that stopped the thread."""
    _, status = os.waitpid(tid, WALL)
    if not os.WIFSTOPPED(status):
        raise RuntimeError(f"thread {tid} has ended")
    return os.WSTOPSIG(status)


def between_calls(tid, number, argument, count):
    """Instructions between two calls of the system call `number`, `count` times; with `argument`, only calls
    whose second argument it is."""
    ptrace(SEIZE, tid)
    ptrace(INTERRUPT, tid)
    wait(tid)
    found, steps, pass_on = [], None, 0
    while len(found) < count:
        if ptrace(PEEKUSER, tid, RAX) == number:
            is_wanted = argument is None or ptrace(PEEKUSER, tid, RSI) == argument
            if is_wanted and ptrace(PEEKTEXT, tid, ptrace(PEEKUSER, tid, RIP)) & 0xFFFF == SYSCALL:
                if steps is not None:
                    found.append(steps)
                steps = 0
        ptrace(SINGLESTEP, tid, 0, pass_on)
        stopped = wait(tid)
        pass_on = 0 if stopped == signal.SIGTRAP else stopped
        if steps is not None:
            steps += 1
    ptrace(DETACH, tid, 0, pass_on)
    return found
