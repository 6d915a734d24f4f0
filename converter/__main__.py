"""`python -m ropext.converter` is `ropext`."""

from .cli import main

main(prog_name="ropext")
