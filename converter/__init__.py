"""What runs on the machine of the person who converts: read, check, plan, write. Needs neither torch nor transformers."""

__version__ = "0.1.0"
