"""What ropext costs, each figure beside its peer's, both measured in one run. `python -m benchmarks` lists them."""
