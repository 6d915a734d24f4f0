"""The command `ropext`: click and rich are imported here and nowhere else."""
