"""Models that come with Godwit, by name: Hugging Face folders inside the package, for a first try."""

from pathlib import Path

_ROOM = Path(__file__).parents[1] / "bundled"


def names() -> list[str]:
    """Names of the bundled models."""
    return sorted(folder.parent.name for folder in _ROOM.glob("*/config.json"))


def resolve(folder: str | Path) -> Path:
    """The folder that is meant: a bundled model's by its name, unless there is a folder of that name here."""
    path = Path(folder)
    return _ROOM / path if not path.exists() and str(folder) in names() else path
