"""The demo from end to end on a tiny model, its page, and going on after a stop."""

import json
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

import pytest

from godwit.cli import main
from godwit.indexcache.bench import BenchResult
from godwit.indexcache.quality import Quality
from godwit.indexcache.report import Story, gains, losses, render, typed
from godwit.indexcache.result import SearchResult
from godwit.models.families import config_from_hf
from godwit.models.init import build
from godwit.models.weights import load, save
from godwit.text.bpe import train_bpe
from tests.models.parity import CASES

WORDS = ["--seq-len", "1100", "--rows", "2", "--test-rows", "1", "--samples", "1", "--rounds", "1", "--clock", "cpu"]
WORDS += ["--bench-length", "1200", "--keep", "1/2"]


class Balanced(HTMLParser):
    """Checks that tags are closed in order, and that nothing is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br", "path", "use", "html"):
            self.open.append(tag)
        for name, value in attributes:
            assert name not in ("src", "href") or str(value).startswith(("data:", "#")), (name, value)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "use", "html"):
            assert self.open.pop() == tag, tag
