"""Continue texts with a trained model.

Examples:
  godwit generate nano "def main("
  godwit generate runs/nano "import os" "class A:" --max-tokens 40 --temperature 0
  godwit generate path/to/hf_folder "Once" --seed 7 --json
  godwit generate nano - < story.txt

MODEL is a bundled model, a Hugging Face folder or the folder of a finished run. One prompt is written as it comes,
several run together and are written at the end. A prompt of - is read from standard input. Ctrl-C stops it.
"""

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from godwit.base.errors import GodwitError
from godwit.cli.options import Positional, parse
from godwit.cli.sampling import SamplingOptions, Stopwatch

if TYPE_CHECKING:
    from godwit.engine.llm import LLM
    from godwit.engine.params import SamplingParams


@dataclass(frozen=True)
class Options(SamplingOptions):
    """Options of `godwit generate`."""

    model: Annotated[Positional[str], tyro.conf.arg(metavar="MODEL")] = tyro.MISSING
    """bundled model, or folder of a model or of a finished run"""
    prompts: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="PROMPT...")] = ()
    """texts to continue"""
    max_tokens: int = 64
    """upper number of new tokens for each"""
    stop: tuple[str, ...] = ()
    """texts that end the output"""
    json: bool = False
    """print one JSON object a prompt"""


def run(arguments: list[str]) -> int:
    """Load, sample, print."""
    options = parse(Options, arguments, verb="generate", about=__doc__)
    if not options.prompts:
        raise GodwitError('no prompt given; type: godwit generate MODEL "some text"')
    prompts = [_read() if prompt == "-" else prompt for prompt in options.prompts]
    llm = options.load(options.model)
    params = [
        options.params("generate", place, max_tokens=options.max_tokens, stop=options.stop)
        for place in range(len(prompts))
    ]
    if len(prompts) == 1 and not options.json:
        _stream(llm, prompts[0], params[0])
        return 0
    watch = Stopwatch()
    for number, output in enumerate(llm.generate(prompts, params, use_tqdm=True)):
        answer = output.outputs[0]
        watch.count(len(answer.token_ids))
        if options.json:
            row = {"prompt": output.prompt, "text": answer.text, "num_tokens": len(answer.token_ids)}
            print(json.dumps(row | {"finish": answer.finish_reason}, ensure_ascii=False))
        else:
            print(("\n" if number else "") + (output.prompt or "") + answer.text)
    watch.say()
    return 0


def _stream(llm: "LLM", prompt: str, params: "SamplingParams") -> None:
    print(prompt, end="", flush=True)
    watch = Stopwatch()
    try:
        for delta in llm.stream(prompt, params):
            watch.count(len(delta.token_ids))
            print(delta.text, end="", flush=True)
    finally:
        print(flush=True)
        watch.say()


def _read() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise GodwitError(f"standard input is not UTF-8 ({error}); convert it, e.g. with iconv") from error
