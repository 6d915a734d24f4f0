"""A step of `python -m benchmarks gpu` in which everything goes wrong; `tests/benchmarks/test_gpu.py` runs it."""

import os
import signal
import time

CELLS = ("good", "crashes", "hangs", "raises", "good again")


def cells(setting):
    return CELLS


def run(cell, setting):
    if cell.name == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if cell.name == "hangs":
        time.sleep(600)
    if cell.name == "raises":
        raise RuntimeError("the device is lost")
    cell.attempt("one", lambda: {"ok": True}, dtype="float32")
    cell.attempt("another", lambda: 1 / 0)
