"""Finding a method's numbers for a model by measuring it."""
