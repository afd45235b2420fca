"""Write a model as a Hugging Face folder that Transformers, vLLM and SGLang load: config, weights, tokenizer.

Weights go out shard by shard under the names published checkpoints use (one matrix per expert), straight from the
model's own memory where dtype and device allow; otherwise one shard is converted at a time. The folder appears whole
or not at all, and room on the disk is checked first.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from godwit.base.errors import GodwitError, RunStoppedError
from godwit.base.files import atomic_folder, check_space, write_json
from godwit.models.config import DecoderConfig
from godwit.models.init import empty
from godwit.models.weights.names import Slot, slots_of
from godwit.models.weights.reader import as_dtype
from godwit.models.weights.shards import INDEX, SINGLE

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
)
ALWAYS_FLOAT32 = "e_score_correction_bias"  # routing decisions flip when it is rounded
SMALL_FILES_BYTES = 64 * 2**20  # config, index, tokenizer and file-system overhead, for the space check


@dataclass(frozen=True)
class _Entry:
    """One tensor to be written: its name on disk, where its numbers are, and what it will be."""

    disk_name: str
    slot: Slot
    dtype: torch.dtype
    num_bytes: int


def save(
    model_or_state: nn.Module | Mapping[str, Tensor],
    config: DecoderConfig,
    folder: str | Path,
    *,
    tokenizer_folder: str | Path | None = None,
    max_shard_bytes: float = 5e9,
    dtype: torch.dtype | str | None = None,
) -> None:
    """Write weights, config.json, generation_config.json and the tokenizer's files to `folder`, replacing an older one.

    Args:
        model_or_state: the decoder, or its whole (unsharded) state dict; a mapping is asked for one tensor at a time.
        config: the model's config.
        folder: where to write; an existing folder is replaced only if it is a checkpoint folder.
        tokenizer_folder: folder whose tokenizer files are copied along.
        max_shard_bytes: upper size of one file (a single larger tensor gets a file of its own).
        dtype: dtype to write, None keeps each tensor's. The routers' correction bias is always float32.

    Raises:
        GodwitError: `folder` holds something else than a checkpoint, or `tokenizer_folder` no tokenizer.
        RunStoppedError: no space, or a write failed; an older checkpoint in `folder` is intact.
    """
    folder = Path(folder)
    check_replaceable(folder)
    tokenizer_files = _tokenizer_files(tokenizer_folder)
    state = model_or_state.state_dict() if isinstance(model_or_state, nn.Module) else model_or_state
    _assert_whole(state, config)
    wanted = None if dtype is None else as_dtype(dtype)
    entries = [entry for name in state for entry in _entries(name, state[name], wanted)]
    shards = list(_shards(entries, max_shard_bytes))
    total_bytes = sum(entry.num_bytes for entry in entries)
    check_space(folder.parent, total_bytes + SMALL_FILES_BYTES, what=f"the checkpoint {folder.name}")
    written_dtype = wanted or state["model.embed_tokens.weight"].dtype
    try:
        with atomic_folder(folder) as temporary:
            weight_map: dict[str, str] = {}
            for place, shard in enumerate(shards):
                file = SINGLE if len(shards) == 1 else f"model-{place + 1:05d}-of-{len(shards):05d}.safetensors"
                _write_shard(shard, state, temporary / file)
                weight_map.update({entry.disk_name: file for entry in shard})
            if len(shards) > 1:
                write_json(temporary / INDEX, {"metadata": {"total_size": total_bytes}, "weight_map": weight_map})
            write_configs(config, written_dtype, temporary)
            for file in tokenizer_files:
                shutil.copyfile(file, temporary / file.name)
    except (SafetensorError, OSError) as error:
        raise RunStoppedError(f"could not write {folder} ({error}); what was there before is untouched") from error


def _assert_whole(state: Mapping[str, Tensor], config: DecoderConfig) -> None:
    """A state that is not the config's (a rank's own share of the experts, say) would be written without complaint."""
    built = {
        name: tensor.shape for name, tensor in empty(config, dtype=torch.float32, device="meta").state_dict().items()
    }
    assert state.keys() == built.keys(), sorted(state.keys() ^ built.keys())[:5]
    wrong = [(name, state[name].shape, shape) for name, shape in built.items() if state[name].shape != shape]
    assert not wrong, wrong[:5]


def _entries(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Iterator[_Entry]:
    """What the state-dict tensor `name` becomes on disk."""
    written = torch.float32 if name.endswith(ALWAYS_FLOAT32) else dtype or tensor.dtype
    for disk_name, slot in slots_of(name, tensor.shape):
        num_elements = slot.view(tensor).numel()
        yield _Entry(disk_name, slot, written, num_elements * written.itemsize)


def _shards(entries: list[_Entry], max_shard_bytes: float) -> Iterator[list[_Entry]]:
    """`entries` in order, cut before the one that would make a file too large."""
    shard: list[_Entry] = []
    num_bytes = 0
    for entry in entries:
        if shard and num_bytes + entry.num_bytes > max_shard_bytes:
            yield shard
            shard, num_bytes = [], 0
        shard.append(entry)
        num_bytes += entry.num_bytes
    yield shard


def _write_shard(shard: list[_Entry], state: Mapping[str, Tensor], path: Path) -> None:
    """One safetensors file; tensors that need neither moving nor casting are written from where they are."""
    tensors = {
        entry.disk_name: entry.slot.view(state[entry.slot.name]).detach().to("cpu", entry.dtype).contiguous()
        for entry in shard
    }
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def write_configs(config: DecoderConfig, dtype: torch.dtype, folder: Path) -> None:
    """config.json and generation_config.json; the latter makes `generate` stop where the model was taught to."""
    raw = config.to_hf() | {"dtype": str(dtype).removeprefix("torch.")}
    write_json(folder / "config.json", raw)
    tokens = {key: raw[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if raw.get(key) is not None}
    write_json(folder / "generation_config.json", {"_from_model_config": True} | tokens)


def _tokenizer_files(folder: str | Path | None) -> list[Path]:
    if folder is None:
        return []
    files = [Path(folder) / name for name in TOKENIZER_FILES if (Path(folder) / name).is_file()]
    if not any(file.name in ("tokenizer.json", "vocab.json") for file in files):
        raise GodwitError(f"{folder} holds no tokenizer.json; give the folder a tokenizer was saved to")
    return files


def another_folder(folder: str | Path, source: Path) -> Path:
    """`folder` for a changed copy of the checkpoint in `source`, checked: it must be another one, and replaceable."""
    folder = Path(folder)
    if folder.resolve() == source.resolve():
        raise GodwitError(f"{folder} is the checkpoint itself; give another folder to write to")
    check_replaceable(folder)
    return folder


def check_replaceable(folder: Path) -> None:
    """Refuse to replace anything but an empty folder or a flat one with a config.json: the old content is deleted."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise GodwitError(f"{folder} is a file; give a folder for the checkpoint")
    content = list(folder.iterdir())
    if content and not ((folder / "config.json").is_file() and all(path.is_file() for path in content)):
        raise GodwitError(f"{folder} holds something else than a checkpoint and would be replaced; give a new folder")
