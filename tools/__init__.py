"""Programs that are run by hand, as `python -m tools.fuzz`."""
