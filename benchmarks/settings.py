"""Parameters of the methods for speed: published or suggested ones, for 8192 trained tokens and 32 frequency pairs."""

SETTINGS = {
    "dpe": {
        "local_window": 1024,
        "scale_factors": [2, 8, 2, 8, 16, 16, 128, 8],
        "dimension_groups": [0, 4, 8, 12, 16, 20, 24, 28, 32],
    },
    "gali": {"chunk_size": 1000, "local_window": 128},
    "self_extend": {"group_size": 4, "local_window": 1024},
    "jet_long": {"window": 8192, "local_window": 2048},
    "rerope": {"local_window": 1024},
    "string": {"shift": 2730, "local_window": 128},
    "dca": {"chunk_size": 6144, "local_window": 1024},
}
"""Parameters by method; the others have none but their defaults."""
SETTINGS_WINDOW, SETTINGS_TARGET, SETTINGS_PAIRS = 8192, 16384, 32
