"""`python -m ropext` is `ropext`."""

from ropext.converter.cli.app import main

main(prog_name="ropext")
