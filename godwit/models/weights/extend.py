"""Copy a checkpoint folder and add tensors to it, without reading the ones it has.

The copied files keep their bytes; the added tensors lie in one file of their own, and an index names what is where.
Quantised checkpoints are the caller's to refuse: what is added here is plain.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from godwit.base.errors import RunStoppedError
from godwit.base.files import atomic_folder, check_space, read_json, write_json
from godwit.models.config import DecoderConfig
from godwit.models.weights.reader import Checkpoint
from godwit.models.weights.shards import INDEX, SINGLE
from godwit.models.weights.writer import SMALL_FILES_BYTES, TOKENIZER_FILES, another_folder, write_configs

COPIED = "model-base.safetensors"  # Transformers would read SINGLE and never look at the index
ADDED = "model-added.safetensors"
# What other programs need and no config of ours has a field for.
KEPT_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")
KEPT_FILES = (*TOKENIZER_FILES, "tokenizer.model", "generation_config.json")


def extend(checkpoint: Checkpoint, config: DecoderConfig, added: Mapping[str, Tensor], folder: str | Path) -> None:
    """Write `checkpoint`'s weights and `added` to `folder` as a checkpoint of `config`, its tokenizer with it.

    Raises:
        GodwitError: `folder` is the checkpoint's own, or holds something else than a checkpoint.
        RunStoppedError: no space, or a write failed; an older checkpoint in `folder` is intact.
    """
    folder = another_folder(folder, checkpoint.folder)
    assert not added.keys() & checkpoint.tensors.keys(), sorted(added.keys() & checkpoint.tensors.keys())[:5]
    new_name = {file: COPIED if file.name == SINGLE else file.name for file in _files(checkpoint)}
    assert ADDED not in new_name.values(), new_name
    weight_map = {name: new_name[stored.file] for name, stored in checkpoint.tensors.items()}
    weight_map |= dict.fromkeys(added, ADDED)
    num_added = sum(tensor.nbytes for tensor in added.values())
    total = num_added + sum(stored.num_bytes for stored in checkpoint.tensors.values())
    check_space(folder.parent, total + SMALL_FILES_BYTES, what=f"the checkpoint {folder.name}")
    try:
        with atomic_folder(folder) as temporary:
            for file, name in new_name.items():
                shutil.copyfile(file, temporary / name)
            save_file(dict(added), temporary / ADDED, metadata={"format": "pt"})
            (temporary / ADDED).chmod(0o644)
            write_json(temporary / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
            _write_small_files(checkpoint, config, temporary)
    except (SafetensorError, OSError) as error:
        raise RunStoppedError(f"could not write {folder} ({error}); what was there before is untouched") from error


def _files(checkpoint: Checkpoint) -> list[Path]:
    return sorted({stored.file for stored in checkpoint.tensors.values()})


def _write_small_files(checkpoint: Checkpoint, config: DecoderConfig, folder: Path) -> None:
    write_configs(config, checkpoint.dtype, folder)
    kept = {key: checkpoint.raw[key] for key in KEPT_KEYS if key in checkpoint.raw}
    write_json(folder / "config.json", read_json(folder / "config.json") | kept)
    for name in KEPT_FILES:
        if (checkpoint.folder / name).is_file():
            shutil.copyfile(checkpoint.folder / name, folder / name)
