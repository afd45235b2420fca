"""Benchmarks and what they need: a result is figures, their sample size, and how they were made."""
