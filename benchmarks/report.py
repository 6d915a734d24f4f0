"""The line that says where figures were measured, and the table that they stand in."""

import os
import platform
from datetime import date
from importlib.metadata import version


def machine():
    """Date, processor and versions, as one line."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "ropext"))
    return f"{date.today()}, {model}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}"


def show(title, header, rows):
    """Print a Markdown table under a title."""
    print(f"## {title}\n\n{machine()}\n")
    for row in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(map(str, row)) + " |")
