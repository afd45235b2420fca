"""What the commands have in common: the model, its calibration text, and where results go."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from godwit.base.errors import GodwitError, MissingPartError
from godwit.cli.options import Positional
from godwit.cli.targets import RUNS, model_folder

if TYPE_CHECKING:
    from godwit.dist.world import World
    from godwit.indexcache.calibration import Calibration
    from godwit.indexcache.engine import Engine

# Long enough for sharing to matter in small models, and what two cores do in minutes.
MOST_SEQ_LEN = 8192
# What `godwit train nano` holds out: the same texts, chosen by their hash, so that they are new to that model.
HOLDOUT = 0.05


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options about model, text and output."""

    model: Annotated[Positional[str], tyro.conf.arg(metavar="MODEL")]
    """folder of a Hugging Face model or of a finished run"""
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SOURCE")] = ("stdlib",)
    """calibration texts, each as in --data.sources of godwit train, e.g. stdlib@1 my_texts/@2"""
    seq_len: Annotated[int | None, tyro.conf.arg(metavar="TOKENS")] = None
    """tokens of a row; default the model's longest context, at most 8192"""
    rows: int = 8
    """rows of calibration text"""
    single: bool = False
    """only rows that are one document, or a part of one; else documents are packed"""
    hf: bool = False
    """let Transformers run the model, for families Godwit does not have; slower"""
    device_map: str = ""
    """with --hf: how Transformers spreads the model, e.g. auto"""
    out: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """folder of the results; default runs/indexcache-MODEL"""
    seed: int = 0
    """of the choice of rows, and of the random plan"""


def model_name(target: str) -> str:
    """How a model is named in results: as the user did, without a slash at its end."""
    return target.rstrip("/")


def result_folder(options: DataOptions) -> Path:
    """`--out`, or a folder named after the model."""
    return Path(options.out) if options.out else RUNS / f"indexcache-{Path(model_name(options.model)).name}"


def open_model(options: DataOptions, world: "World") -> "Engine":
    """The model, ready to be run a layer at a time."""
    folder = model_folder(options.model)
    name = model_name(options.model)
    if not options.hf:
        if options.device_map:
            raise GodwitError("device_map is for models run by Transformers; add --hf")
        from godwit.indexcache.engine import DecoderEngine
        from godwit.models.weights import load

        return DecoderEngine(load(folder, device=world.device), name=name)
    import importlib.util

    from godwit.indexcache.proxy import ProxyEngine

    try:
        # By name: Godwit does not need Transformers, a user of --hf does.
        transformers = importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        raise MissingPartError("--hf needs Transformers; type pip install 'godwit[hf]'") from error
    placed = {"device_map": options.device_map} if options.device_map else {}
    if placed and importlib.util.find_spec("accelerate") is None:
        raise MissingPartError("--device_map needs Accelerate; type pip install 'godwit[hf]'")
    # The class that the checkpoint names: some families have no causal language model under the automatic name.
    names = transformers.AutoConfig.from_pretrained(folder).architectures or []
    kind = getattr(transformers, names[0], None) if names else None
    if kind is None:
        raise GodwitError(f"this Transformers ({transformers.__version__}) has no {names or 'architecture'}; update it")
    try:
        model = kind.from_pretrained(folder, attn_implementation="eager", **placed)
    except (ValueError, RuntimeError) as error:
        if not placed:
            raise
        raise GodwitError(
            f"Transformers cannot spread the model by --device_map {options.device_map}: {error}; it takes auto, "
            "balanced, balanced_low_0, sequential, or one device, as cpu or cuda:0"
        ) from error
    return ProxyEngine(model if placed else model.to(world.device), name=name)


def calibrate(options: DataOptions, engine: "Engine", folder: Path, world: "World", *, seen: int = 0) -> "Calibration":
    """Rows of the texts, tokenised by the model's own tokenizer; the first process prepares them.

    The first `seen` rows, which another command was given, come before those asked for.
    """
    from godwit.data.config import DataConfig
    from godwit.data.prepare import prepare
    from godwit.indexcache.calibration import draw_rows

    seq_len = options.seq_len or min(engine.max_seq_len, MOST_SEQ_LEN)
    if options.rows < 1:
        raise GodwitError(f"rows is {options.rows}; give at least 1")
    if seq_len <= engine.topk:
        raise GodwitError(
            f"seq_len is {seq_len} and the model keeps {engine.topk} positions (index_topk): everything is attended to "
            f"and sharing would be invisible; give --seq-len above {engine.topk}"
        )
    if seq_len > engine.max_seq_len:
        raise GodwitError(
            f"seq_len is {seq_len} and the model takes {engine.max_seq_len} positions; give a smaller --seq-len"
        )
    config = DataConfig(sources=options.data, tokenizer=str(model_folder(options.model)), holdout=HOLDOUT)
    if world.is_first:
        prepare(config, folder / "data", seed=options.seed)
    world.barrier()
    return draw_rows(
        prepare(config, folder / "data", seed=options.seed),
        num_rows=seen + options.rows,
        seq_len=seq_len,
        topk=engine.topk,
        single=options.single,
        seed=options.seed,
    )


def parse_bytes(text: str) -> int:
    """ "2GB", "500 MB", "0": decimal units."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)B?\s*", text, flags=re.IGNORECASE)
    if found is None:
        raise GodwitError(f"memory is {text!r}; give e.g. 2GB, 500MB or 0")
    return int(float(found[1]) * {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[found[2].upper()])
