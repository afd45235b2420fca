"""What to type so that an engine runs a sharing plan, and which plan an engine would run for given settings.

All uniform rules are one rule with another origin. With layers counted from 0, layer i is F iff

    max(i - last, 0) % freq == 0        last: the last of the leading F layers, from which the period counts

and `last` is the engine's offset less `Engine.counted_from`:

| engine | rule in its own terms | last | offset if not given |
|---|---|---|---|
| Transformers, vLLM, SGLang, TensorRT-LLM | max(i - offset + 1, 0) % freq | offset - 1 | 2: FFSSSF... at freq 4 |
| Megatron | max(n - max(offset, 1), 0) % freq, n = i + 1 | offset - 1 | 0, read as 1: FSSSF... |
| ROCm ATOM | max(i - offset, 0) % freq | offset | 1: FFSSSF... |
| patches of THUDM/IndexCache | max(i - 1, 0) % freq | 1 | there is none |
| DeepSeek-V4 in vLLM | c % freq, c-th layer with compress_ratio 4 | 0 | there is none |

So the paper's FSSSF... is offset 1 for the first two rows and 0 for ATOM, and no frequency of the patches gives it.
GLM-5.2 ships frequency 4, offset 3: F at 0, 1, 2, 6, 10, ... Where a pattern and a frequency are both there, the
pattern is followed; `indexer_types` goes before both, in the engines that read it. The prediction (MTP) layer is in no
plan: its first step runs its own indexer, later steps reuse it.

Sources: the engines' code as of November 2026: `GlmMoeDsaConfig` in Transformers 5.23, `DeepseekV2MLAAttention` in vLLM
0.33 and its documentation of IndexCache, `dsa_layer_skips_topk` in SGLang 0.5.23, TensorRT-LLM #15574, Megatron's
`is_dsa_skip_topk_layer`, ATOM's reader of `indexer_types`, THUDM/IndexCache 08d22d6. Of these only Transformers is run
in the tests; `tools/check_vllm.py` asks vLLM's own loader.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from godwit.base.errors import GodwitError, did_you_mean
from godwit.nn.share_plan import SharePlan

TYPES, PATTERN, FREQ, OFFSET = "indexer_types", "index_topk_pattern", "index_topk_freq", "index_skip_topk_offset"
C4_RATIO = 4  # DeepSeek-V4's layers with an indexer


class Flags(NamedTuple):
    """What to type for one engine.

    Attributes:
        pattern: names every layer; None if the engine takes no pattern.
        uniform: the same by a frequency; None if its rule cannot make this plan.
        note: what to know about the engine.
    """

    engine: str
    pattern: str | None
    uniform: str | None
    note: str


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One engine's rule and the words for it.

    Attributes:
        form: what is typed, with `{model}`, `{settings}` and `{pattern}`.
        uniform_form: the same for a frequency, where that is typed elsewhere.
        pattern_keys: its names for a plan given letter by letter, the one it follows first at first.
        counted_from: what its offset is larger by than `last` of the module's rule.
        default_offset: taken where none is given; for an engine without `offset_key`, the only one.
        offset_floor: smaller offsets are read as this one; None if they are not.
        switch: what has to be said besides.
        as_json: settings are typed as JSON, else as key=value.
    """

    name: str
    form: str
    uniform_form: str = ""
    pattern_keys: tuple[str, ...] = (PATTERN,)
    freq_key: str = FREQ
    offset_key: str | None = OFFSET
    counted_from: int = 1
    default_offset: int = 2
    offset_floor: int | None = None
    switch: tuple[tuple[str, bool], ...] = ()
    as_json: bool = True
    note: str

    def runs(self, settings: Mapping[str, Any], num_layers: int) -> SharePlan:
        """The plan this engine follows for `settings` in its own names (a config.json, say; other keys are ignored).

        Raises:
            GodwitError: the settings make no plan, e.g. one whose first layer has nobody to share with.
        """
        for key in self.pattern_keys:
            if settings.get(key) is not None:
                return SharePlan.parse(settings[key], num_layers)
        given = settings.get(self.offset_key) if self.offset_key else None
        offset = self.default_offset if given is None else given
        if self.offset_floor is not None:
            offset = max(offset, self.offset_floor)
        return SharePlan.from_freq(num_layers, settings.get(self.freq_key) or 1, offset - self.counted_from + 1)

    def uniform(self, plan: SharePlan) -> dict[str, int] | None:
        """The settings by frequency that make this engine run `plan`, or None if none do."""
        found = plan.freq_and_offset
        if found is None:
            return None
        freq, offset = found[0], found[1] - 1 + self.counted_from
        settings = {self.freq_key: freq} | ({self.offset_key: offset} if self.offset_key and freq > 1 else {})
        return settings if self.runs(settings, len(plan.pattern)) == plan else None

    def flags(self, plan: SharePlan, model: str = "MODEL") -> Flags:
        """What to type for `plan`, on the checkpoint `model`."""
        typed_pattern, uniform = None, self.uniform(plan)
        if self.pattern_keys:
            key = self.pattern_keys[0]
            value = list(plan.types) if key == TYPES else plan.pattern
            typed_pattern = self._typed(self.form, {key: value}, model, plan)
        form = self.uniform_form or self.form
        typed_uniform = None if uniform is None else self._typed(form, uniform, model, plan)
        return Flags(self.name, typed_pattern, typed_uniform, self.note)

    def _typed(self, form: str, values: Mapping[str, Any], model: str, plan: SharePlan) -> str:
        settings = dict(self.switch) | dict(values)
        words = json.dumps(settings) if self.as_json else " ".join(f"{key}={value}" for key, value in settings.items())
        return form.replace("{model}", model).replace("{settings}", words).replace("{pattern}", plan.pattern)


ENGINES: dict[str, Engine] = {
    "transformers": Engine(
        name="Transformers",
        form='AutoModelForCausalLM.from_pretrained("{model}", '
        'indexer_types=[{"F": "full", "S": "shared"}[c] for c in "{pattern}"])',
        uniform_form="config.json without indexer_types: {settings}",
        pattern_keys=(TYPES, PATTERN),
        note="glm_moe_dsa; deepseek_v32 has no sharing. from_pretrained(..., index_topk_pattern=...) changes nothing: "
        "such keywords are set after the config has settled its indexer_types.",
    ),
    "vllm": Engine(
        name="vLLM",
        form="vllm serve {model} --hf-overrides '{settings}'",
        switch=(("use_index_cache", True),),
        note="export first: on NVIDIA GPUs a checkpoint with indexers that the plan does not use is refused, drafts "
        "read config.json only. The pattern goes before the frequency; 0.33 does not ask for use_index_cache any more.",
    ),
    "sglang": Engine(
        name="SGLang",
        form="python -m sglang.launch_server --model-path {model} --json-model-override-args '{settings}'",
        uniform_form="config.json without indexer_types: {settings}",
        pattern_keys=(TYPES, PATTERN),
        note="0.5.23 follows indexer_types first, and glm_moe_dsa always has them; versions before read patterns only.",
    ),
    "tensorrt-llm": Engine(
        name="TensorRT-LLM",
        form="config.json: {settings}",
        note="reads them from the checkpoint's config.json.",
    ),
    "megatron": Engine(
        name="Megatron",
        form="{settings}",
        pattern_keys=(),
        freq_key="dsa_indexer_topk_freq",
        offset_key="dsa_indexer_skip_topk_offset",
        default_offset=0,
        offset_floor=1,
        as_json=False,
        note="fields of TransformerConfig; no patterns, layers counted from 1, each pipeline stage begins with F.",
    ),
    "atom": Engine(
        name="ROCm ATOM",
        form="config.json: {settings}",
        pattern_keys=(TYPES, PATTERN),
        counted_from=0,
        default_offset=1,
        note="its offset is one less than the others': indexer_types says the same everywhere and goes first.",
    ),
    "patches": Engine(
        name="IndexCache patches",
        form="python -m sglang.launch_server --model-path {model} --json-model-override-args '{settings}'",
        offset_key=None,
        note="THUDM/IndexCache, for SGLang b638b25b and vLLM 4508532fb (there --hf-overrides); a frequency begins "
        "with FF, so the paper's FSSS... needs the pattern.",
    ),
    "deepseek-v4": Engine(
        name="vLLM, DeepSeek-V4",
        form="vllm serve {model} --hf-overrides '{settings}'",
        offset_key=None,
        default_offset=1,
        switch=(("use_index_cache", True),),
        note="one letter for each layer with compress_ratio 4, none for the others (V4-Flash: 21 letters, layers 2, 4, "
        "..., 42).",
    ),
}


def engine(name: str) -> Engine:
    """The engine called `name`.

    Raises:
        GodwitError: for a name that is not in the table.
    """
    if name not in ENGINES:
        raise GodwitError(f"unknown engine {name!r}: {did_you_mean(name, ENGINES)}")
    return ENGINES[name]


def c4_plan(plan: str, compress_ratios: Sequence[int], num_layers: int) -> SharePlan:
    """DeepSeek-V4's plan, a letter for each layer with compress_ratio 4, from one with a letter for every layer.

    Ratios behind the last layer (draft layers) are ignored; letters of layers without an indexer are dropped.

    Raises:
        GodwitError: another number of letters, or the first layer with an indexer is S.
    """
    layers = [layer for layer, ratio in enumerate(compress_ratios[:num_layers]) if ratio == C4_RATIO]
    if len(plan) == num_layers:
        return SharePlan("".join(plan[layer] for layer in layers))
    if len(plan) != len(layers):
        raise GodwitError(
            f"the sharing plan has {len(plan)} letters; give {len(layers)}, one for each layer with compress_ratio 4, "
            f"or {num_layers}, one for each layer"
        )
    return SharePlan(plan)
