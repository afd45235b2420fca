"""Load a Hugging Face folder into a decoder, tensor by tensor, never holding the weights twice.

The decoder is built without memory (meta device), every fault is found from the files' headers and reported at once,
then each parameter is allocated and filled straight from the mapped files: per-expert matrices go into their rows of
the fused block, FP8 blocks are scaled on the way, dtypes are cast on the way.

Not read: optimiser state, tokenizer, pickled weights.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from godwit.base.errors import GodwitError, did_you_mean
from godwit.base.files import read_json
from godwit.models.bundled import resolve
from godwit.models.config import DecoderConfig
from godwit.models.decoder import Decoder
from godwit.models.families import config_from_hf
from godwit.models.init import empty
from godwit.models.weights import fp8
from godwit.models.weights.match import Matched, match_tensors
from godwit.models.weights.names import layers_in
from godwit.models.weights.shards import StoredTensor, find_tensors, read_tensors

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
STORED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}

logger = logging.getLogger(__name__)


def load(folder: str | Path, *, dtype: torch.dtype | str | None = None, device: torch.device | str = "cpu") -> Decoder:
    """The decoder in `folder` (config.json and safetensors, as published or as `save` writes them).

    Args:
        folder: a Hugging Face checkpoint folder.
        dtype: dtype of the parameters; None takes config.json's, else the files' own. The routers' correction bias
            stays float32.
        device: where the parameters are put.

    Raises:
        GodwitError: no such folder, no config.json, unknown family, missing or damaged files, or weights that do not
            fit the config (all missing, unexpected and mis-shaped tensors are named in one message).
    """
    found = inspect(folder)
    for reason, names in found.matched.ignored.items():
        logger.log(reason.level, "%s: %d tensors ignored, %s (%s ...)", folder, len(names), reason.value, names[0])
    model = empty(found.config, dtype=found.dtype if dtype is None else as_dtype(dtype), device=device)
    block = fp8.block_size(found.raw.get("quantization_config"), str(found.folder / "config.json"))
    _fill(model.state_dict(), found.tensors, found.matched, block)
    return model


@dataclass(frozen=True)
class Checkpoint:
    """A folder whose headers fit its config.json; no weight has been read.

    Attributes:
        raw: config.json as it is.
        config: the same as a config, without a prediction layer that is not there.
        tensors: all that is stored, by name on disk.
        dtype: of the plain tensors.
    """

    folder: Path
    raw: dict[str, Any]
    config: DecoderConfig
    tensors: dict[str, StoredTensor]
    matched: Matched
    dtype: torch.dtype


def inspect(folder: str | Path) -> Checkpoint:
    """Check the checkpoint in `folder` by its headers. Raises as `load` does."""
    folder = resolve(folder)
    raw = read_config(folder)
    config = config_from_hf(raw)
    tensors = find_tensors(folder)
    config = _without_absent_mtp(config, tensors, folder)
    meta = empty(config, dtype=torch.float32, device="meta").state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in meta.items()}
    block = fp8.block_size(raw.get("quantization_config"), str(folder / "config.json"))
    matched = match_tensors(tensors, shapes, config, block=block, folder=folder)
    return Checkpoint(folder, raw, config, tensors, matched, _own_dtype(raw, tensors))


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint folder, or an error that says what the folder lacks."""
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else "does not exist"
        raise GodwitError(f"{folder} {kind}; give a folder with config.json and model.safetensors")
    if not (folder / "config.json").is_file():
        raise GodwitError(f"{folder} has no config.json; give the folder of a Hugging Face checkpoint")
    raw = read_json(folder / "config.json")
    if not isinstance(raw, dict):
        raise GodwitError(f"{folder / 'config.json'} holds {type(raw).__name__}, not an object; copy it again")
    return raw


def _without_absent_mtp(config: DecoderConfig, tensors: dict[str, StoredTensor], folder: Path) -> DecoderConfig:
    """`config` without MTP if the folder holds no layer for it (`transformers` names MTP but never writes it)."""
    if config.num_nextn_predict_layers == 0 or max(layers_in(tensors), default=0) >= config.num_hidden_layers:
        return config
    logger.warning("%s holds no MTP layer; num_nextn_predict_layers is taken as 0", folder)
    return replace(config, num_nextn_predict_layers=0)


def as_dtype(given: torch.dtype | str) -> torch.dtype:
    """A torch dtype from itself or from its name ("float32", "bfloat16", "float16")."""
    if isinstance(given, torch.dtype):
        return given
    if given not in DTYPES:
        raise GodwitError(f"unknown dtype {given!r}: {did_you_mean(given, DTYPES)}")
    return DTYPES[given]


def _own_dtype(raw: dict[str, Any], tensors: dict[str, StoredTensor]) -> torch.dtype:
    """The dtype config.json names; else that of the first plain tensor; else (FP8 alone) bfloat16."""
    named = str(raw.get("dtype") or raw.get("torch_dtype") or "")
    if named in DTYPES:
        return DTYPES[named]
    stored = [STORED[tensor.dtype] for tensor in tensors.values() if tensor.dtype in STORED]
    return stored[0] if stored else torch.bfloat16


def _fill(
    state: dict[str, torch.Tensor], tensors: dict[str, StoredTensor], matched: Matched, block: tuple[int, int]
) -> None:
    """Copy every matched tensor into its slot of `state`, which shares the model's memory; scales are read first."""
    scales = {name: scale.clone() for name, scale in read_tensors(tensors, matched.scales.values())}
    for name, tensor in read_tensors(tensors, matched.slots):
        slot = matched.slots[name]
        target = slot.view(state[slot.name])
        if name in matched.scales:
            fp8.dequantize_into(target, tensor, scales[matched.scales[name]], block)
        else:
            target.copy_(tensor)
