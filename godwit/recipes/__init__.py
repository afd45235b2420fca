"""Recipes: one file per published system, each setting with its source. The minimum:

```python
\"\"\"GLM-9: what it is, one line (arXiv 0000.00000).\"\"\"

from godwit.train.config import TrainConfig

def paper() -> TrainConfig: ...    # the published shapes and hyper-parameters
def small() -> TrainConfig: ...    # one GPU, under an hour
def smoke() -> TrainConfig: ...    # seconds, run by the tests
```

Every public function that takes nothing and returns a `TrainConfig` is a variant: `glm9:paper` on the command line. A
bare `glm9` means `default()` if there is one, else the function named like the recipe, else `small()`. A recipe holds
settings and no logic; what differs between recipes is a config value, never an `if` in the floors below.
Experiments over several runs are in `studies`, for `godwit study`.
Proof it must bring: `paper()` has the published parameter counts, and `smoke()` trains.
"""

import ast
from typing import TYPE_CHECKING

from godwit.base.errors import GodwitError, did_you_mean
from godwit.base.plugins import Room

if TYPE_CHECKING:
    from godwit.train.config import TrainConfig

ROOM = Room("godwit.recipes", noun="recipe", furniture=("studies",))


def variants(name: str) -> list[str]:
    """The variants of recipe `name` in the order of its file, read without importing it."""
    if name not in ROOM.names():
        raise GodwitError(f"unknown recipe {name!r}: {did_you_mean(name, ROOM.names())}; godwit list recipes shows all")
    file = ROOM.folder / f"{name}.py"
    path = file if file.exists() else ROOM.folder / name / "__init__.py"
    return [
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and isinstance(node.returns, ast.Name)
        and node.returns.id == "TrainConfig"
    ]


def find(recipe: str) -> "TrainConfig":
    """The config of `name` or `name:variant`; a wrong name or variant says which ones there are."""
    name, _, variant = recipe.partition(":")
    known = variants(name)
    if variant and variant not in known:
        raise GodwitError(f"recipe {name!r} has no variant {variant!r}: {did_you_mean(variant, known)}")
    chosen = variant or next((word for word in ("default", name, "small") if word in known), None)
    if chosen is None:
        raise GodwitError(
            f"recipe {name!r} has no default; choose one of {', '.join(f'{name}:{word}' for word in known)}"
        )
    return vars(ROOM.load(name))[chosen]()
