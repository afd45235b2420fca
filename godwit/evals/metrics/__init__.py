"""What benchmarks compute from scored samples: cells, aggregates, intervals, comparisons; pure functions, no torch.

Scores of a single text are `godwit.rewards`.
"""
