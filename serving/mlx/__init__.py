"""What mlx-lm loads: one file, shipped in emitted folders."""
