"""The process of one step: `python -m benchmarks.gpu.child MODULE DEVICE FILE CELL_SECONDS OPTIONS`.

A cell that an earlier process of the step began is not run again.
"""

import faulthandler
import gc
import json
import os
import sys
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.gpu.cell import Cell, facts
from benchmarks.gpu.results import Results
from benchmarks.gpu.setting import Setting


def main():
    os.setpgrp()  # so that all that this process starts can be ended with it
    faulthandler.enable()
    name, device, path, cell_seconds, options = sys.argv[1:]
    module, setting, results = import_module(name), Setting(device, json.loads(options)), Results(Path(path))
    step = name.rpartition(".")[2]
    cells = module.cells(setting)
    results.write("plan", step=step, cells=cells, **facts(device))
    gc.freeze()  # what is imported is no garbage, and takes longest to look through
    begun = {line["cell"] for line in results.read("begin", step)}
    for cell in cells:
        if cell not in begun:
            results.write("begin", step=step, cell=cell)
            # Also a process that hangs in the driver ends so, and says on stderr where.
            faulthandler.dump_traceback_later(float(cell_seconds), exit=True)
            module.run(Cell(results, step, cell, device), setting)
            faulthandler.cancel_dump_traceback_later()
            results.write("end", step=step, cell=cell)
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
