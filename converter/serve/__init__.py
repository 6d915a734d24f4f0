"""How to serve a model: the command that each runtime needs, or why it cannot."""
