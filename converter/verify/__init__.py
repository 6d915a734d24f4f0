"""Whether a converted checkpoint is what it says, and does what it should."""
