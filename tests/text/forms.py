"""What is tested of every form: that its parser takes what it allows, and that the server's grammars read it alike."""

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from godwit.text.forms import REHEARSAL, Form, Room

ROOMS = (Room(), REHEARSAL)


def holds(form: Form, readable: Callable[[str], Any]) -> None:
    """Texts of the form, in free room and a rehearsal's, are taken by xgrammar and `readable` (no error, not None)."""
    for room in ROOMS:
        _hold(form(room), readable)


def _hold(pattern: str, readable: Callable[[str], Any]) -> None:
    @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.from_regex(re.compile(pattern), fullmatch=True))
    def taken(text: str) -> None:
        assert readable(text.strip()) is not None
        assert allowed(pattern, text)

    taken()


def allowed(pattern: str, text: str) -> bool:
    """Whether xgrammar, as the server uses it, lets a model write `text`, whole."""
    matcher = _compiler(pattern)
    return matcher.accept_string(text) and matcher.is_completed()


def _compiler(pattern: str) -> Any:
    xgrammar = pytest.importorskip("xgrammar")
    return xgrammar.GrammarMatcher(_compiled(pattern), terminate_without_stop_token=True)


@functools.cache
def _compiled(pattern: str) -> Any:
    import json

    import xgrammar

    vocabulary = [bytes([value]) for value in range(256)] + [b""]
    info = xgrammar.TokenizerInfo(vocabulary, stop_token_ids=[256])
    tag = {"type": "structural_tag", "format": {"type": "regex", "pattern": pattern}}
    return xgrammar.GrammarCompiler(info, max_threads=1).compile_structural_tag(json.dumps(tag))
