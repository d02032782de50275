"""What the package costs, as ratios to a floor of the same run; `python -m benchmarks` measures everything."""
