"""A base model: its files, its facts, and the families that can be converted."""
