"""Data pipelines against any OpenAI-compatible endpoint: a chain of small typed stages, one file a pipeline.

The minimum, `godwit/synth/pipelines/haiku.py`:

```python
\"\"\"A haiku on each topic.\"\"\"

from godwit.synth.ask import Ask, user
from godwit.synth.rows import Drop, Row

VERSION = 1  # goes up when prompts or rules change; recorded with every row


class Topic(Row):  # what an input row must have, besides its id
    topic: str


class Haiku(Topic):  # what comes out
    text: str


async def write(row: Topic, ask: Ask) -> Haiku:
    text = await ask.text("write", [user(f"Write a haiku about {row.topic}.")], max_tokens=100, temperature=1.0)
    if len(text.splitlines()) != 3:
        raise Drop("not three lines")
    return row.to(Haiku, text=text)


STAGES = (write,)
```

and a few rows in `godwit/synth/samples/haiku.jsonl`. It is run by `godwit synth haiku --input topics.jsonl ...`.

* A stage takes a row and an `Ask`, and returns a row, or a list of rows (each goes on alone). `row.to(Next, field=...)`
  carries fields over. It may raise `Drop(reason)`; what is given up is written to `rejected.jsonl`, never lost.
* `ask.text`, `ask.json(stage, messages, Schema, ...)` and `ask.parsed(stage, messages, parse, ...)` check the answer
  and have it repaired a bounded number of times; `parse` raises `Malformed(reason)`. `ask.said` is one raw answer.
  `role="judge"` sends it to the judge (say `JUDGED = True` in the file), whose unusable answers raise `Unscored`.
  `form=...` beside `parse`: a regular expression of answers that `parse` takes, as a function of the room it leaves
  (`godwit.text.forms`); an endpoint that is run with --forms, and the bundled model always, cannot break it. `ask.json`
  needs none, its schema is one. `tests.text.forms.holds` proves that a form and its parser fit.
  `draw=1, 2, ...` for several answers to one prompt; `every(calls)` makes calls at once (not `asyncio.gather`, whose
  outcome may hang on which was first). `ask.random("what for")` is seeded by the row.
* Options: a frozen dataclass `Options` in the file, read as `ask.options` (annotate `Ask[Options]`), typed as
  `--FIELD VALUE`; `REHEARSAL = {"field": value}` for runs with the bundled model, whose texts are a line long.
* Pictures: `PICTURES = True`, `ask.picture(path)`, `user(text, pictures)`.
* Retrieval: `RETRIEVES = True`, `retrieval.rank(ask, queries, passages, count=...)`; `chunks.chunks` cuts texts.
* A stage looks at its row alone, draws chance from `ask.random`, and asks for no time of day: so a run that was killed,
  or spread over machines, ends in the same bytes.

Everything else is the floor's: every answer is kept under a key of model, prompt and parameters (`journal`), so a
killed run sends only what is missing and changed parsing costs nothing; limits, retries and the breaker (`line`,
`pace`); input checks (`source`), costs, the data card and the pages. Proof a pipeline
brings: `finishes` of `tests/synth/harness.py`, which runs it against an endpoint with every fault on.
"""
