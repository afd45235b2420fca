"""Copy a checkpoint folder without some of its tensors, byte for byte, whatever their dtype, never holding one.

A safetensors file is the length of its header (8 bytes, little-endian), the header (JSON: name -> dtype, shape, begin
and end of its bytes), and the bytes. The copy has a new header and the same bytes in the same order; files that lose
nothing are copied whole, files that lose everything are left out. Everything else in the folder but config.json and
other weight formats comes along: tokenizer, chat template, model card.
"""

import json
import shutil
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from godwit.base.errors import RunStoppedError
from godwit.base.files import atomic_folder, check_space, write_json
from godwit.base.progress import Progress
from godwit.models.weights.reader import Checkpoint, inspect
from godwit.models.weights.shards import INDEX, PICKLED
from godwit.models.weights.writer import SMALL_FILES_BYTES, another_folder

HEADER_ALIGNMENT = 8  # as the format's own writer pads it
PIECE_BYTES = 16 * 2**20
NOT_COPIED = ("config.json", INDEX, "*.safetensors", "*.gguf", *PICKLED)


def copy_without(
    checkpoint: Checkpoint,
    dropped: Collection[str],
    raw_config: Mapping[str, Any],
    folder: str | Path,
    *,
    show_progress: bool = False,
) -> None:
    """Write `checkpoint` without the tensors named in `dropped`, and with `raw_config`, to `folder`.

    The folder appears whole or not at all, and only after its headers have been read back and found to fit its config.

    Raises:
        GodwitError: `folder` is the checkpoint's own, or holds something else than a checkpoint.
        RunStoppedError: no space, or a write failed; an older checkpoint in `folder` is intact.
    """
    folder = another_folder(folder, checkpoint.folder)
    kept = {name: stored for name, stored in checkpoint.tensors.items() if name not in dropped}
    total = sum(stored.num_bytes for stored in kept.values())
    check_space(folder.parent, total + SMALL_FILES_BYTES, what=f"the checkpoint {folder.name}")
    try:
        with (
            atomic_folder(folder) as temporary,
            Progress(total, what="copying", unit="bytes", silent=not show_progress) as progress,
        ):
            for file in sorted({stored.file for stored in kept.values()}):
                names = {name for name, stored in kept.items() if stored.file == file}
                _copy_file(file, names, temporary / file.name, progress)
            if (checkpoint.folder / INDEX).exists():
                weight_map = {name: stored.file.name for name, stored in kept.items()}
                write_json(temporary / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
            for file in _others(checkpoint.folder):
                shutil.copyfile(file, temporary / file.name)
            write_json(temporary / "config.json", dict(raw_config))
            inspect(temporary)
    except OSError as error:
        raise RunStoppedError(f"could not write {folder} ({error}); what was there before is untouched") from error


def _copy_file(source: Path, names: set[str], target: Path, progress: Progress) -> None:
    """The tensors `names` of one safetensors file."""
    with source.open("rb") as reading, target.open("wb") as writing:
        (length,) = struct.unpack("<Q", reading.read(8))
        header = json.loads(reading.read(length))
        start = reading.tell()
        entries = {name: entry for name, entry in header.items() if name in names}
        spans = []
        kept = {"__metadata__": header["__metadata__"]} if "__metadata__" in header else {}
        position = 0
        for name, entry in sorted(entries.items(), key=lambda pair: pair[1]["data_offsets"]):
            begin, end = entry["data_offsets"]
            kept[name] = entry | {"data_offsets": [position, position + end - begin]}
            spans.append((begin, end))
            position += end - begin
        text = json.dumps(kept, separators=(",", ":")).encode()
        text += b" " * (-len(text) % HEADER_ALIGNMENT)
        writing.write(struct.pack("<Q", len(text)) + text)
        for begin, end in spans:
            reading.seek(start + begin)
            _copy_bytes(reading, writing, end - begin, progress)


def _copy_bytes(reading: BinaryIO, writing: BinaryIO, num_bytes: int, progress: Progress) -> None:
    while num_bytes:
        piece = reading.read(min(num_bytes, PIECE_BYTES))
        if not piece:
            raise OSError(f"{reading.name} ended {num_bytes} bytes early")
        writing.write(piece)
        num_bytes -= len(piece)
        progress.advance(len(piece))


def _others(folder: Path) -> list[Path]:
    """Files of a checkpoint folder that are neither weights nor config."""
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("."))
    return [path for path in files if not any(path.match(pattern) for pattern in NOT_COPIED)]
