"""Time and memory of configs, as ratios in one run."""
