"""The methods: what their parameters may be, and the numbers that follow from them."""
