"""What lets other runtimes run the checkpoints that ropext writes."""
