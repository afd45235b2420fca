"""Rewards and scores as pure functions, one kind a file; no torch, no model, no network.

A file's minimum: a function from what was written (and asked, cited, judged) to a number, with its definition, its edge
cases and its source in the docstring, and in `tests/rewards/` a case worked out by hand.

Two rules hold in all of them. Where a paper and its released code differ, the paper is the default and
`compat="code"` is the code. What could not be judged is `None` ("unscored"), never 0 or a middle value: the caller
counts it. Texts of models are parsed in time linear in their length and never evaluated.
"""

from typing import Literal

Compat = Literal["paper", "code"]
"""Which of two definitions: the paper's, or what the released code computes."""
