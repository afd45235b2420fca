"""An output's text while its tokens come: whole characters only, stop strings across token borders, nothing told early.

Bytes of a character that is not complete wait for the rest; a text's end that may begin a stop string waits until it is
clear. Joined, the pieces are `Tokenizer.decode` of the tokens, up to the stop string.
"""

import codecs

from godwit.text.tokenizer import Tokenizer


class OutputText:
    """The text of one choice.

    Args:
        tokenizer: of the model.
        stop: strings that end the output.
        include_stop: whether they are part of the text.
        skip_special: leave out roles and end of text.
    """

    def __init__(self, *, tokenizer: Tokenizer, stop: tuple[str, ...], include_stop: bool, skip_special: bool):
        self._tokenizer = tokenizer
        self._skipped: frozenset[int] = tokenizer.skipped_ids if skip_special else frozenset()
        self._stop, self._include = stop, include_stop
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def add(self, token_id: int, *, may_stop: bool = True) -> tuple[str, str | None]:
        """New text to tell, and the stop string that ended it (the first to begin; the longest of those)."""
        fresh = b"" if token_id in self._skipped else self._tokenizer.token_bytes(token_id)
        text = self._held + self._decoder.decode(fresh)
        if not may_stop:
            self._held = ""
            return text, None
        return self._told(text)

    def finish(self) -> tuple[str, str | None]:
        """What was held back, after the last token."""
        text, stop = self._told(self._held + self._decoder.decode(b"", final=True))
        if stop is None:
            text, self._held = text + self._held, ""
        return text, stop

    def _told(self, text: str) -> tuple[str, str | None]:
        found = [(text.find(stop), -len(stop), stop) for stop in self._stop if stop in text]
        if found:
            at, _, stop = min(found)
            self._held = ""
            return text[: at + len(stop) if self._include else at], stop
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held], None


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`, shorter than it."""
    longest = min(len(text), len(stop) - 1)
    return next((count for count in range(longest, 0, -1) if text.endswith(stop[:count])), 0)
