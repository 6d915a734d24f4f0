"""Models that are asked, and the records of what they answered."""
