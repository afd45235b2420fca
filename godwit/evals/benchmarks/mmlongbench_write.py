"""MMLongBench-Write: long texts about images, length and quality apart (LongWriter-V, arXiv 2502.14834).

Six tasks (slide scripts, travel guides, medical reports, stories, scenery copy, film reviews); the judge sees the
images too. `--images caption` gives the model and the judge captions from the data instead, for models that read text
only.

The data are the Hugging Face set THU-KEG/MMLongBench-Write, split train: Parquet whose rows have `question` and
`images`, a list of pictures (read by `eval/mmlongbench_write.py` of THU-KEG/LongWriter-V, commit 7e5e414). The required
length is `L` and a row's number is its id, in `eval/utils.py` there, which also takes each 20 rows in order for a task:
no field names it. That the published set has `L` could not be looked up; without it a row is refused. Files of your own
may say `prompt`, `length`, `task` and `captions`.

Paper and code differ: the code calls its length score with the arguments exchanged, so texts that are too long lose by
the strict slope and short ones by the lenient one. The paper's formula is LongWriter's; `--compat code` is the code.
"""

import base64
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, Field, field_validator, model_validator

from godwit.base.errors import GodwitError
from godwit.evals.benchmarks import _long_text as shared
from godwit.evals.harness.data import number_is_a_name
from godwit.evals.harness.kit import Ask, Judge, Kit, Reply
from godwit.evals.harness.outcomes import Figure, Outcome
from godwit.evals.harness.published import Table
from godwit.rewards import Compat

TITLE, DATA = "MMLongBench-Write", "hf:THU-KEG/MMLongBench-Write"
FILE, ID = "data/train-00000-of-00001.parquet", "id"
METRICS = shared.METRICS
MAX_TOKENS, TEMPERATURE = 8_192, 0.5
PROMPTS = {"quality": shared.QUALITY_PROMPT}
JUDGE = shared.judge_settings("gpt-4o-2024-08-06")
REHEARSAL: dict[str, object] = {"images": "caption"}
EDGES = (0, 1_500, 2_000, 3_000)
PER_TASK = 20


class Row(BaseModel):
    """A request about images; `images` are addresses, data URIs, files beside the data, or pictures in a table."""

    id: str = ""
    prompt: str = Field(min_length=1, validation_alias=AliasChoices("prompt", "question"))
    length: int = Field(ge=1, validation_alias=AliasChoices("length", "L"))
    task: str = ""
    images: list[str] = Field(min_length=1)
    captions: list[str] = []

    _number_is_a_name = field_validator("id", mode="before")(number_is_a_name)

    @field_validator("images", mode="before")
    @classmethod
    def _pictures_of_a_table(cls, images: Any) -> Any:
        return [_picture(image) for image in images] if isinstance(images, list) else images

    @field_validator("images")
    @classmethod
    def _no_path_leads_out(cls, images: list[str]) -> list[str]:
        for image in images:
            if not image.startswith(_ADDRESSES) and (Path(image).is_absolute() or ".." in Path(image).parts):
                raise ValueError(f"image {image!r} lies outside the data's folder")
        return images

    @model_validator(mode="after")
    def _captions_are_of_the_images(self) -> "Row":
        if self.captions and len(self.captions) != len(self.images):
            raise ValueError(f"{len(self.captions)} captions for {len(self.images)} images")
        return self


_ADDRESSES = ("http://", "https://", "data:image/")
_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp", b"GIF8": "gif"}


def _picture(image: Any) -> Any:
    """A data URI of what Hugging Face's tables have for a picture: {"bytes": ..., "path": ...}."""
    if not isinstance(image, dict) or not isinstance(image.get("bytes"), bytes):
        return image
    content: bytes = image["bytes"]
    kind = next((kind for start, kind in _KINDS.items() if content.startswith(start)), None)
    if kind is None:
        raise ValueError("a picture is neither PNG, JPEG, WebP nor GIF")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the model sees, and which length formula."""

    images: Literal["image", "caption"] = "image"
    """image, or caption: the captions in the data, for a model of text"""
    compat: Compat = "paper"
    """code: the released code's exchanged slopes"""


async def answer(row: Row, ask: Ask, options: Options, kit: Kit) -> Reply:
    """The request with its images, or with their captions in front."""
    return await ask(request(row, options), images=pictures(row, options, kit))


def request(row: Row, options: Options) -> str:
    """The text of the message."""
    if options.images == "image":
        return row.prompt
    if not row.captions:
        raise GodwitError(f"row {row.id} has no captions; give data with captions, or --images image")
    captions = (f"Image {number}: {text}" for number, text in enumerate(row.captions, start=1))
    return "\n".join(captions) + "\n\n" + row.prompt


def longest_prompt(row: Row, options: Options, kit: Kit) -> str:
    """The text that must fit into the model; what images take depends on it."""
    return request(row, options)


def pictures(row: Row, options: Options, kit: Kit) -> tuple[str, ...]:
    """The images as addresses or data URIs; none for captions."""
    if options.images == "caption":
        return ()
    return tuple(image if image.startswith(_ADDRESSES) else _data_uri(kit.folder / image) for image in row.images)


async def score(row: Row, reply: Reply, judge: Judge, options: Options, kit: Kit) -> Outcome:
    """Length by count, quality by the judge."""
    groups = (f"length {shared.bucket(row.length, EDGES)}", *([f"task {row.task}"] if row.task else []))
    return await shared.long_text_outcome(
        request(row, options),
        row.length,
        reply,
        judge,
        groups=groups,
        compat=options.compat,
        images=pictures(row, options, kit),
    )


def figures(outcomes: Mapping[str, Outcome], rows: Mapping[str, Row], options: Options) -> list[Figure]:
    """Overall, by required length and by task; where rows name none, by the twenties that upstream takes for tasks."""
    return shared.long_text_figures([_placed(name, outcome, rows[name]) for name, outcome in outcomes.items()])


def _placed(name: str, outcome: Outcome, row: Row) -> Outcome:
    if row.task or not name.isdecimal():
        return outcome
    first = int(name) // PER_TASK * PER_TASK
    return replace(outcome, groups=(*outcome.groups, f"rows {first} to {first + PER_TASK - 1}"))


def _data_uri(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or ""
    if not kind.startswith("image/") or not path.is_file():
        raise GodwitError(f"no image file {path}; images lie beside the data file, as .png, .jpg or .webp")
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


PUBLISHED = Table(
    source="LongWriter-V, arXiv 2502.14834, table 2",
    columns=("S", "S_l", "S_q"),
    rows={
        "LongWriter-V-72B": (84.9, 84.3, 85.5),
        "LongWriter-V-7B-DPO": (84.6, 86.2, 82.9),
        "Qwen2.5-VL-72B": (83.3, 79.9, 86.7),
        "Gemini-1.5-Pro": (83.0, 74.8, 91.2),
        "captions + DeepSeek-R1": (82.4, None, None),
        "LongWriter-V-7B": (81.8, 82.5, 81.1),
        "GPT-4o": (62.7, 42.7, 82.6),
        "Qwen2.5-VL-7B": (54.4, 45.3, 63.5),
    },
    caution="All 120 prompts, judged by gpt-4o-2024-08-06, which saw the images; S_l by the released code (exchanged "
    "slopes), so compare S_l under --compat code.",
)
