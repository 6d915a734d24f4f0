"""Whether an installed runtime honours the keys of a checkpoint: its own rotary tables against what the keys mean."""
