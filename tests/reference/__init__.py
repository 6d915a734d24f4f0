"""The naive oracle of each method: loops over pairs of tokens, straight from the paper, in float64."""
