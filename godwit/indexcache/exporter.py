"""Write the checkpoint that a sharing plan leads to: the plan in its config, no indexers where it has S.

From a folder the weights are copied byte for byte (quantised ones too, with the scales that belong to them), a piece at
a time; from a model they are written as `save` does. All keys that engines read the plan from are set
(`SharePlan.config_keys`), all others stay as they were. The prediction (MTP) layer keeps its indexer: its first step
runs it and later steps reuse the choice, which `index_share_for_mtp_iteration` says to engines.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from godwit.base.errors import GodwitError
from godwit.models.config import DecoderConfig
from godwit.models.decoder import Decoder
from godwit.models.indexed import MTP_KEY, IndexedConfig
from godwit.models.weights import inspect, save
from godwit.models.weights.names import layer_of
from godwit.models.weights.subset import copy_without
from godwit.nn.share_plan import SharePlan

INDEXER = "self_attn.indexer."
# Who follows the plan of a family's checkpoint; Godwit follows all of them.
READERS = {"glm_moe_dsa": "Transformers, vLLM, SGLang, TensorRT-LLM", "deepseek_v32": "vLLM, SGLang"}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export wrote.

    Attributes:
        config: of the new checkpoint.
        dropped_layers: 0-based layers whose indexer is gone.
        dropped_bytes: bytes of their indexers.
        total_bytes: bytes of all tensors before.
        notes: what the user has to know: who can load it, what was done with quantised weights.
    """

    folder: Path
    config: IndexedConfig
    dropped_layers: tuple[int, ...]
    dropped_bytes: int
    total_bytes: int
    notes: tuple[str, ...]


def export(
    model: Decoder | str | Path,
    plan: SharePlan | str,
    folder: str | Path,
    *,
    tokenizer_folder: str | Path | None = None,
    show_progress: bool = False,
) -> Exported:
    """Write the checkpoint of `model` under `plan` to `folder`.

    Args:
        model: a Hugging Face folder, which is copied without reading its weights, or a model in memory.
        plan: one letter a layer.
        folder: where to write; an existing folder is replaced only if it is a checkpoint.
        tokenizer_folder: for a model in memory, the folder whose tokenizer is copied along.
        show_progress: draw how far the copy of a folder is.

    Raises:
        GodwitError: a dense model, a plan that does not fit it, or one that asks for an indexer that is not there.
        RunStoppedError: no space, or a write failed; an older checkpoint in `folder` is intact.
    """
    if isinstance(model, Decoder):
        return _from_memory(model, plan, Path(folder), tokenizer_folder)
    checkpoint = inspect(model)
    own = sparse(checkpoint.config, str(model))
    wanted = SharePlan.parse(plan, own.num_hidden_layers)
    sizes = {name: stored.num_bytes for name, stored in checkpoint.tensors.items()}
    _refuse_promotion(wanted, own, set(sizes))
    config = dataclasses.replace(own, indexer_types=wanted.types)
    dropped = _dropped(wanted, sizes)
    copy_without(checkpoint, dropped, _raw(checkpoint.raw, config), folder, show_progress=show_progress)
    return Exported(
        folder=Path(folder),
        config=config,
        dropped_layers=_layers(dropped),
        dropped_bytes=sum(dropped.values()),
        total_bytes=sum(sizes.values()),
        notes=_notes(config, quantised=bool(checkpoint.matched.scales)),
    )


def sparse(config: DecoderConfig, name: str) -> IndexedConfig:
    """`config`, if it is of a model with indexers.

    Raises:
        GodwitError: a dense model.
    """
    if not isinstance(config, IndexedConfig):
        raise GodwitError(
            f"{name} is a dense {config.model_type} model without indexers, so there is nothing to share; "
            f"give it some first: godwit convert {name} --out DIR"
        )
    return config


def _from_memory(model: Decoder, plan: SharePlan | str, folder: Path, tokenizer_folder: str | Path | None) -> Exported:
    own = sparse(model.config, "this model")
    wanted = SharePlan.parse(plan, own.num_hidden_layers)
    state = model.state_dict()
    _refuse_promotion(wanted, own, set(state))
    config = dataclasses.replace(own, indexer_types=wanted.types)
    sizes = {name: tensor.nbytes for name, tensor in state.items()}
    dropped = _dropped(wanted, sizes)
    kept = {name: tensor for name, tensor in state.items() if name not in dropped}
    save(kept, config, folder, tokenizer_folder=tokenizer_folder)
    return Exported(
        folder=folder,
        config=config,
        dropped_layers=_layers(dropped),
        dropped_bytes=sum(dropped.values()),
        total_bytes=sum(sizes.values()),
        notes=_notes(config, quantised=False),
    )


def _refuse_promotion(wanted: SharePlan, own: IndexedConfig, names: set[str]) -> None:
    """A layer can be F only if its indexer's weights are there, whatever the config says of it."""
    layers = range(own.num_hidden_layers)
    bare = [n for n in layers if wanted.is_full(n) and f"model.layers.{n}.{INDEXER}wk.weight" not in names]
    if bare:
        raise GodwitError(
            f"layers {bare} have no indexer weights and cannot be F; the checkpoint's own plan is {own.plan}, "
            "give one whose F layers are among its F layers"
        )


def _dropped(plan: SharePlan, sizes: dict[str, int]) -> dict[str, int]:
    """Name and bytes of every tensor of an indexer that an S layer would own."""
    found = {}
    for name, num_bytes in sizes.items():
        layer, rest = layer_of(name) or (0, "")
        if rest.startswith(INDEXER) and layer < len(plan.pattern) and not plan.is_full(layer):
            found[name] = num_bytes
    return found


def _layers(dropped: dict[str, int]) -> tuple[int, ...]:
    places = (layer_of(name) for name in dropped)
    return tuple(sorted({place[0] for place in places if place is not None}))


def _raw(raw: dict[str, Any], config: IndexedConfig) -> dict[str, Any]:
    """config.json as it was, with the plan under every name that an engine looks for."""
    keys = config.plan.config_keys
    changed = {key: value for key, value in (raw | keys).items() if not (key in keys and value is None)}
    if config.num_nextn_predict_layers:
        changed.setdefault(MTP_KEY, True)
    return changed


def _notes(config: IndexedConfig, *, quantised: bool) -> tuple[str, ...]:
    notes = []
    shares = config.plan.num_full < config.num_hidden_layers
    if config.model_type == "deepseek_v32" and shares:
        notes.append(
            "Transformers has no sharing for deepseek_v32 and would fill the missing indexers with random numbers: "
            "load this with Godwit, vLLM or SGLang"
        )
    elif config.model_type not in READERS:
        notes.append(f"{config.model_type} is Godwit's own family: only Godwit loads it")
    if quantised:
        notes.append("the weights are quantised and stay so: copied byte for byte with their scales")
    return tuple(notes)
