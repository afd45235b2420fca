"""Constrained output: what comes matches, whatever the model would rather say."""

import json
import re

import pytest

from godwit.base.errors import GodwitError
from godwit.engine.grammar import Grammar
from godwit.engine.params import SamplingParams
from tests.engine.tiny import engine_of, model_of, prompt_of, run, tokenizer

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["godwit", "knot"]}, "days": {"type": "integer", "minimum": 0, "maximum": 11}},
    "required": ["name", "days"],
    "additionalProperties": False,
}


def test_schema_regex_and_free_rows_together() -> None:
    engine = engine_of(model_of("flash", True), speculate=2)
    params = [
        SamplingParams(max_tokens=60, seed=n, grammar=grammar, logprobs=1)
        for n, grammar in enumerate([Grammar.json_schema(SCHEMA), Grammar.regex(r"[a-c]{3}-(中|é)\d{2}"), None])
    ]
    schema, regex, free = (one.outputs[0] for one in run(engine, [prompt_of(9)] * 3, params))
    value = json.loads(schema.text)
    assert value["name"] in ("godwit", "knot") and 0 <= value["days"] <= 11 and set(value) == {"name", "days"}
    assert re.fullmatch(r"[a-c]{3}-(中|é)\d{2}", regex.text)
    assert schema.finish_reason == regex.finish_reason == "stop"
    assert schema.token_ids[-1] in tokenizer().eos_token_ids
    expected = run(engine_of(model_of("flash", True)), [prompt_of(9)], params[2])[0].outputs[0]
    assert free.token_ids == expected.token_ids


def test_any_json_cut_by_length_is_the_beginning_of_some() -> None:
    params = SamplingParams(max_tokens=5, seed=1, grammar=Grammar.any_json(), ignore_eos=True)
    output = run(engine_of(model_of("flash")), [prompt_of(9)], params)[0].outputs[0]
    assert output.text.lstrip()[:1] in set('{["-0123456789tfn')


@pytest.mark.parametrize("grammar", [Grammar.regex("(["), Grammar.json_schema({"type": "no such type"})])
def test_what_cannot_be_compiled_is_refused(grammar: Grammar) -> None:
    engine = engine_of(model_of("flash"))
    with pytest.raises(GodwitError, match="cannot be compiled"):
        engine.add([1], SamplingParams(grammar=grammar))
    assert not engine.has_work


@pytest.mark.parametrize("schema", ["[1, 2]", "{", 3])
def test_schemas_are_objects(schema: object) -> None:
    with pytest.raises(GodwitError, match="give an object"):
        Grammar.json_schema(schema)


def test_min_tokens_do_not_go_with_a_grammar() -> None:
    with pytest.raises(GodwitError, match="leave min_tokens out"):
        engine_of(model_of("flash")).add([1], SamplingParams(min_tokens=2, grammar=Grammar.any_json()))
