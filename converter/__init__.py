"""What runs on the machine of the person who converts: reads, checks, plans, writes."""

from ropext import __version__ as __version__
