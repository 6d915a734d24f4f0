"""How much memory a model needs: weights, cache and prefill, by runtime."""
