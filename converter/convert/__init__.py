"""A conversion: planned without writing anything, then written."""
