"""Each engine's rule written out on its own, against the table; what is typed, read as the engine would."""

import json
import re
import shlex
from collections.abc import Callable

import pytest
import transformers

from godwit.base.errors import GodwitError
from godwit.indexcache.engines import ENGINES, c4_plan, engine
from godwit.nn.share_plan import SharePlan


def like_transformers(i: int, freq: int, offset: int) -> bool:
    return max(i - offset + 1, 0) % freq == 0


def like_megatron(i: int, freq: int, offset: int) -> bool:
    number = i + 1
    return max(number - max(offset, 1), 0) % freq == 0


def like_atom(i: int, freq: int, offset: int) -> bool:
    return max(i - offset, 0) % freq == 0


def like_patches(i: int, freq: int, offset: int) -> bool:
    return max(i - 1, 0) % freq == 0


def like_v4(i: int, freq: int, offset: int) -> bool:
    return i % freq == 0


RULES: dict[str, tuple[Callable[[int, int, int], bool], int]] = {  # and the offset of an engine that is given none
    "transformers": (like_transformers, 2),
    "vllm": (like_transformers, 2),
    "sglang": (like_transformers, 2),
    "tensorrt-llm": (like_transformers, 2),
    "megatron": (like_megatron, 0),
    "atom": (like_atom, 1),
    "patches": (like_patches, 2),
    "deepseek-v4": (like_v4, 1),
}


def written_out(name: str, num_layers: int, freq: int, offset: int | None) -> str:
    rule, default = RULES[name]
    return "".join("F" if rule(i, freq, default if offset is None else offset) else "S" for i in range(num_layers))


def test_every_engine_has_its_rule_here() -> None:
    assert RULES.keys() == ENGINES.keys()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("freq", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("offset", [None, 1, 2, 3, 5])
def test_what_an_engine_runs_for_a_frequency(name: str, freq: int, offset: int | None) -> None:
    known = ENGINES[name]
    settings = {known.freq_key: freq} | ({known.offset_key: offset} if known.offset_key and offset else {})
    asked = offset if known.offset_key else None
    assert known.runs(settings, 23).pattern == written_out(name, 23, freq, asked)


def test_one_frequency_means_different_plans() -> None:
    """Frequency 4 and nothing else: the trap the table is for."""
    found = {name: known.runs({known.freq_key: 4}, 9).pattern for name, known in ENGINES.items()}
    two, one = "FFSSSFSSS", "FSSSFSSSF"
    assert found == dict.fromkeys(("transformers", "vllm", "sglang", "tensorrt-llm", "atom", "patches"), two) | {
        "megatron": one,
        "deepseek-v4": one,
    }


def test_glm_52() -> None:
    """Frequency 4, offset 3 of its config.json; the same numbers in Megatron, one less in ATOM."""
    expected = [0, 1, 2, *range(6, 78, 4)]
    config = {"index_topk_freq": 4, "index_skip_topk_offset": 3, "index_topk_pattern": None}
    for name in ("transformers", "vllm", "sglang", "tensorrt-llm"):
        plan = engine(name).runs(config, 78)
        assert [layer for layer in range(78) if plan.is_full(layer)] == expected
    assert engine("megatron").uniform(plan) == {"dsa_indexer_topk_freq": 4, "dsa_indexer_skip_topk_offset": 3}
    assert engine("atom").uniform(plan) == {"index_topk_freq": 4, "index_skip_topk_offset": 2}
    assert engine("patches").uniform(plan) is None and engine("deepseek-v4").uniform(plan) is None
    assert [n for n in range(1, 79) if like_megatron(n - 1, 4, 3)][:5] == [1, 2, 3, 7, 11]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("num_layers", [1, 2, 7])
def test_flags_by_frequency_are_given_exactly_where_the_rule_reaches(name: str, num_layers: int) -> None:
    known = ENGINES[name]
    offsets = range(num_layers + 2) if known.offset_key else [None]
    reached = {written_out(name, num_layers, freq, off) for freq in range(1, num_layers + 2) for off in offsets}
    for bits in range(2 ** (num_layers - 1)):
        plan = SharePlan("F" + "".join("S" if bits >> n & 1 else "F" for n in range(num_layers - 1)))
        settings = known.uniform(plan)
        assert (settings is not None) == (plan.pattern in reached), plan
        if settings is not None:
            offset = settings.get(known.offset_key or "")
            assert written_out(name, num_layers, settings[known.freq_key], offset) == plan.pattern


SEARCHED = "FSFSSSSF"


@pytest.mark.parametrize("pattern", [SEARCHED, "FSSSFSSS", "FFSSSFSS", "FFFFFFFF"])
def test_what_is_typed_says_what_is_meant(pattern: str) -> None:
    plan = SharePlan(pattern)
    for name, known in ENGINES.items():
        flags = known.flags(plan, "my/model")
        for typed in filter(None, (flags.pattern, flags.uniform)):
            settings = read_back(typed)
            assert known.runs(settings, 8) == plan, typed
            if "vllm serve" in typed:
                assert settings["use_index_cache"] is True and shlex.split(typed)[2] == "my/model"
        assert (flags.pattern is None) == (name == "megatron")
    assert engine("megatron").flags(SharePlan(SEARCHED)).uniform is None


def read_back(typed: str) -> dict:
    """The settings in a line that is to be typed, as a shell or Python would see them."""
    if typed.startswith("AutoModel"):
        return {"indexer_types": eval(typed.split("indexer_types=")[1].removesuffix(")"))}
    if "{" not in typed:
        return {key: int(value) for key, value in (pair.split("=") for pair in typed.split())}
    words = [typed[typed.index("{") :]] if "config.json" in typed else shlex.split(typed)
    return json.loads(next(word for word in words if word.startswith("{")))


def test_transformers_reads_configs_as_the_table_says() -> None:
    """The one engine that is here: pattern over frequency, types over both, and the keyword that changes nothing."""
    shape = {"num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 4}
    known = engine("transformers")
    for settings in (
        {"index_topk_freq": 4},
        {"index_topk_freq": 4, "index_skip_topk_offset": 1},
        {"index_topk_freq": 4, "index_topk_pattern": SEARCHED},
        {"index_topk_pattern": SEARCHED, "indexer_types": ["full"] + ["shared"] * 7},
        {},
    ):
        theirs = transformers.AutoConfig.for_model("glm_moe_dsa", **shape, **settings)
        assert tuple(theirs.indexer_types) == known.runs(settings, 8).types


def test_transformers_ignores_the_pattern_as_a_keyword(tmp_path) -> None:
    transformers.AutoConfig.for_model("glm_moe_dsa", num_hidden_layers=8).save_pretrained(tmp_path)
    ignored = transformers.AutoConfig.from_pretrained(tmp_path, index_topk_pattern=SEARCHED)
    assert set(ignored.indexer_types) == {"full"}
    types = list(SharePlan(SEARCHED).types)
    assert transformers.AutoConfig.from_pretrained(tmp_path, indexer_types=types).indexer_types == types


def test_config_keys_make_every_engine_run_the_plan() -> None:
    for pattern in (SEARCHED, "FSSSFSSS", "FFFFFFFF"):
        config = {"index_topk_freq": 2, "index_skip_topk_offset": 5} | SharePlan(pattern).config_keys
        for name in ("transformers", "vllm", "sglang", "tensorrt-llm", "atom", "patches"):
            assert engine(name).runs(config, 8).pattern == pattern, name
    assert SharePlan(SEARCHED).config_keys["index_topk_freq"] is None
    assert SharePlan("FSSSFSSS").config_keys["index_skip_topk_offset"] == 1


def test_deepseek_v4_counts_only_its_compressed_layers() -> None:
    """V4-Flash: 43 layers, indexers in the even ones from 2 to 42, and a draft layer's ratio behind them."""
    ratios = [0, 0] + [4 if layer % 2 == 0 else 128 for layer in range(2, 43)] + [4]
    letters = c4_plan("FSSS" * 5 + "F", ratios, 43)
    assert len(letters.pattern) == 21
    spread = ["S"] * 43
    for place, layer in enumerate(range(2, 43, 2)):
        spread[layer] = letters.pattern[place]
    assert c4_plan("".join(spread), ratios, 43) == letters
    assert engine("deepseek-v4").runs({"index_topk_freq": 2}, 21).num_full == 11  # as vLLM's documentation has it
    assert engine("deepseek-v4").uniform(letters) == {"index_topk_freq": 4}
    with pytest.raises(GodwitError, match=re.escape("has 3 letters; give 21")):
        c4_plan("FSS", ratios, 43)
    with pytest.raises(GodwitError, match="must begin with F"):
        c4_plan("F" + "S" * 42, ratios, 43)


def test_settings_that_make_no_plan_are_refused() -> None:
    with pytest.raises(GodwitError, match="unknown engine 'vlm': did you mean 'vllm'"):
        engine("vlm")
    with pytest.raises(GodwitError, match="must begin with F"):
        engine("sglang").runs({"index_topk_freq": 4, "index_skip_topk_offset": 0}, 8)
    with pytest.raises(GodwitError, match="has 3 letters and the model 8 layers"):
        engine("vllm").runs({"index_topk_pattern": "FSS"}, 8)
