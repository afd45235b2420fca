"""The benchmarks: each file is one, found by its name.

A file's minimum (`long_output.py` needs no judge for two of its three probes; `writingbench.py` is a short judged one):

    '''One line: what is measured, of which paper.'''
    TITLE, DATA, FILE, ID       name on pages; the published data set; its file; the field that is a row's id
    class Row(BaseModel)        the fields that are used of a row
    class Options               a frozen dataclass of the benchmark's own options (may be empty)
    METRICS                     names, the headline first; the outcomes' `values` have these keys
    MAX_TOKENS, TEMPERATURE     of a reply, as published
    PROMPTS, JUDGE              prompt templates by name (hashed into the result); the judge's pin, or None
    PUBLISHED                   a `published.Table` to stand beside ours
    async answer(row, ask, options, kit) -> Reply            the model's calls
    async score(row, reply, judge, options, kit) -> Outcome  pure but for the judge's calls
    figures(outcomes, rows, options) -> list[Figure]         the cells

A judge's call gives the form of the replies that its parser reads (`form=`, see `godwit.text.forms`), a model's call
one where the prompt asks for one. Only in a rehearsal are replies held to it: published numbers were made without.

and a sample of rows of our own in `godwit/evals/samples/<name>.jsonl`. The proof it brings: a hand-worked score, the
prompt as it is rendered, a hostile reply, a judge that fails.
"""

from godwit.base.plugins import Room

ROOM = Room("godwit.evals.benchmarks", noun="benchmark")
