"""Prompts whose answers are known, and how well a model finds them, under one method after the other."""
