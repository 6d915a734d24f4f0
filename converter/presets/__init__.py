"""Presets: found, read, changed and held against a model."""
