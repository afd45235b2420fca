"""Studies: experiments that check a paper's claims at our scale and write down what holds and what does not.

One file a study; `godwit study NAME` runs it. The minimum:

```python
\"\"\"What is asked, one line (arXiv 0000.00000).\"\"\"

@dataclass(frozen=True, kw_only=True)
class Options:                       # the command's options; a line of text below each field is its help
    model: str
    seeds: int = 3

def num_parts(options: Options) -> int: ...                       # how many parts `study` will ask the journal for
def study(options: Options, journal: Journal) -> Findings: ...    # a table, claims, plots
```

Whatever takes time is a part of the journal (`_journal`), so that a study that was stopped goes on where it was. A
claim is text and figures, and whether it holds is computed from the figures, never written by hand (`_findings`).
Proof a study must bring: a run on a tiny model in the tests, killed and resumed with the same results.
"""

from godwit.base.plugins import Room

ROOM = Room("godwit.recipes.studies", noun="study")
