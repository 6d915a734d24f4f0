"""What comes of results: numbers, tables, pictures and pages."""
