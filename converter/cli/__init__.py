"""The command `ropext`: click is imported here and nowhere else."""
