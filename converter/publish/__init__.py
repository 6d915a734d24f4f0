"""Publishing a converted checkpoint on the Hub."""
