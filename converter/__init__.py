"""What runs on the machine of the person who converts: reads, checks, plans, writes. Imports no torch."""

__version__ = "0.1.0"
