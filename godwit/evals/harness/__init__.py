"""What all benchmarks share: rows in, calls through inspect_ai, a pinned judge, outcomes, figures, the result folder.

rows      data.py      a local file or a Hugging Face data set at a pinned revision, checked before any call
endpoint  endpoint.py  one OpenAI-compatible address, asked for its models and one token before money is spent
calls     tasks.py     the only file that imports inspect_ai: concurrency, retries, logs, resuming
judge     judge.py     model, temperature, seed and prompts' hashes, recorded; a verdict or None
figures   outcomes.py  per-sample outcomes to cells with intervals
folder    run.py, result.py, page.py, compare.py
"""
