"""The gallery of results, README's picture and table, and the pictures of the pages: all made of raw lines alone.

`python -m tools.gallery` makes all of it, and says what changed; `--check` changes nothing and fails where something
would. `python -m tools.gallery measure` makes the raw lines again, from nothing.
"""
