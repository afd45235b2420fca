"""The commands of `godwit indexcache`, one file each: a docstring whose first line is the summary, and
`run(arguments: list[str]) -> int`, as in `godwit.cli.verbs`. Torch is imported inside `run` only.
"""
