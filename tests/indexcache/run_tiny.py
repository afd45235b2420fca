"""A tiny search in a process of its own, or under torchrun: `python -m tests.indexcache.run_tiny FOLDER name=value`."""

import sys
from typing import Any

import torch

from godwit.indexcache.searching import search
from tests.indexcache.tiny import model, tokens


def options(words: list[str]) -> dict[str, Any]:
    """`keep=2 lazy=True objective=all` as keywords."""
    values: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        values[name] = value == "True" if value in ("True", "False") else int(value) if value.isdigit() else value
    return values


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = options(sys.argv[2:])
    rows = tokens(rows=given.pop("rows", 3))
    search(model(num_hidden_layers=6), rows, out=sys.argv[1], **({"keep": 2} | given))
