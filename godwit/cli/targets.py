"""What a word on the command line stands for: a recipe, a published shape, a model folder or a run folder."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

from godwit import recipes
from godwit.base.errors import GodwitError, did_you_mean
from godwit.base.plugins import Room
from godwit.models.bundled import names, resolve

RUNS = Path("runs")


def model_folder(target: str) -> Path:
    """The Hugging Face folder that `target` names: itself, `model/` of a finished run, or a bundled model's."""
    folder = resolve(target)
    if (folder / "model" / "config.json").exists():
        return folder / "model"
    if (folder / "provenance.json").exists():
        raise GodwitError(f"{target} is a run that has not finished, it has no model/ yet; resume it with godwit train")
    if (folder / "config.json").exists():
        return folder
    if folder.is_dir():
        raise GodwitError(
            f"{target} holds no model, there is no config.json; give a Hugging Face folder or a finished run"
        )
    finished = sorted(str(path.parent.parent) for path in RUNS.glob("*/model/config.json"))
    known = f"; {did_you_mean(target, [*names(), *finished])}"
    raise GodwitError(f"no such model folder: {target}{known}")


def published_models() -> dict[str, str]:
    """Name of each published shape -> its first line of description, read from the source without importing torch."""
    spec = find_spec("godwit")
    assert spec is not None and spec.submodule_search_locations is not None
    source = Path(spec.submodule_search_locations[0], "models", "published.py")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    docs = {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.value, ast.Dict)
            and ast.unparse(node.target) == "PUBLISHED"
        ):
            pairs = zip(node.value.keys, node.value.values)
            return {ast.literal_eval(key): _first_line(docs[ast.unparse(value)]) for key, value in pairs if key}
    raise AssertionError(f"{source} has no PUBLISHED table")


def _first_line(docstring: str) -> str:
    """Without the tags of sources ("[P5]"), which are explained in the file only."""
    return re.sub(r" \[\w+\]", "", docstring.split("\n", 1)[0])


def families() -> Room:
    """Model families by `model_type`."""
    return Room("godwit.models.families", noun="model family")


def pipelines() -> Room:
    """The pipelines' room, without importing `synth.pipeline` (pydantic)."""
    return Room("godwit.synth.pipelines", noun="pipeline")


def sources() -> Room:
    """Kinds of data source."""
    return Room("godwit.data.sources", noun="data source")


def kind_of(target: str) -> str:
    """ "folder", "recipe" or "published"; a word that is none of them is an error that offers the nearest."""
    if Path(target).is_dir():
        return "folder"
    if target.partition(":")[0] in recipes.ROOM.names():
        return "recipe"
    if target.lower() in (name.lower() for name in published_models()):
        return "published"
    if "/" in target:
        model_folder(target)
    known = [*recipes.ROOM.names(), *published_models()]
    raise GodwitError(f"{target!r} is no recipe, published model or folder: {did_you_mean(target, known)}")
