"""Talk with a model in the terminal.

Examples:
  godwit chat nano
  godwit chat path/to/hf_folder --system "Answer in one sentence." --no-thinking
  printf 'Hello\\nAnd you?\\n' | godwit chat nano --max-tokens 40 --temperature 0

MODEL is a bundled model, a Hugging Face folder or the folder of a finished run. A line is a message, and so is a paste
of many lines once Enter is pressed; arrow up brings earlier ones back. /clear forgets the conversation, /exit or Ctrl-D
ends it; Ctrl-C stops an answer, which then stays as far as it came. Thoughts are shown dim. The speed of each answer is
written to standard error.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from godwit.base.errors import GodwitError
from godwit.cli.options import Positional, parse
from godwit.cli.sampling import SamplingOptions, Stopwatch

if TYPE_CHECKING:
    from godwit.engine.llm import LLM
    from godwit.text.messages import Message

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True)
class Options(SamplingOptions):
    """Options of `godwit chat`."""

    model: Annotated[Positional[str], tyro.conf.arg(metavar="MODEL")] = tyro.MISSING
    """bundled model, or folder of a model or of a finished run"""
    system: str = ""
    """what the model is told before the conversation"""
    max_tokens: int = 1024
    """upper number of tokens of an answer"""
    thinking: bool = True
    """let the model think before it answers"""


def run(arguments: list[str]) -> int:
    """Load, then read, answer, and so on."""
    options = parse(Options, arguments, verb="chat", about=__doc__)
    llm = options.load(options.model)
    from godwit.text.messages import Message

    system = [Message("system", options.system)] if options.system else []
    messages = list(system)
    if sys.stdin.isatty():
        print("/clear forgets the conversation, /exit ends it", file=sys.stderr)
    read = _reader()
    while (line := _line(read)) is not None:
        if line == "/exit":
            break
        if line == "/clear":
            messages = list(system)
        elif line.startswith("/") and "\n" not in line:
            print(f"no command {line.split()[0]!r}; there are /clear and /exit", file=sys.stderr)
        elif line:
            asked = [*messages, Message("user", line)]
            try:
                messages = [*asked, _answer(llm, asked, options)]
            except GodwitError as error:
                if not sys.stdin.isatty():
                    raise
                print(f"godwit: {error}; or type /clear", file=sys.stderr)
    return 0


def _reader() -> Callable[[], str]:
    """What asks for a message, raising EOFError at the end.

    A terminal by itself takes 4,095 bytes a line and drops the rest, and makes a message of every pasted line.
    """
    if not sys.stdin.isatty():
        return input
    from prompt_toolkit import PromptSession
    from prompt_toolkit.output import create_output

    session = PromptSession[str]("> ", output=create_output(always_prefer_tty=True))
    return session.prompt


def _line(read: Callable[[], str]) -> str | None:
    """The next message without blanks around it; None at the end."""
    try:
        return read().strip()
    except EOFError:
        return None
    except UnicodeDecodeError as error:
        raise GodwitError(f"standard input is not UTF-8 ({error}); convert it, e.g. with iconv") from error


def _answer(llm: "LLM", messages: "list[Message]", options: Options) -> "Message":
    """Stream an answer; what of it came, as a message."""
    from godwit.engine.llm import chat_prompt
    from godwit.text.parse import parse_turn
    from godwit.text.specials import END_THINK

    prompt = chat_prompt(llm.tokenizer, messages, enable_thinking=options.thinking)
    params = options.params("chat", len(messages), max_tokens=options.max_tokens)
    end_think, dim = llm.tokenizer.id(END_THINK), options.thinking and sys.stdout.isatty()
    watch, ids = Stopwatch(), list[int]()
    print(DIM if dim else "", end="")
    stream = llm.stream(prompt, params)
    try:
        for delta in stream:
            watch.count(len(delta.token_ids))
            ids += delta.token_ids
            ends = dim and end_think in delta.token_ids
            print(delta.text.replace(END_THINK, f"{PLAIN}\n", 1) if ends else delta.text, end="", flush=True)
    except KeyboardInterrupt:
        stream.close()
    print(PLAIN if dim else "", flush=True)
    watch.say()
    return parse_turn(ids, tokenizer=llm.tokenizer, enable_thinking=options.thinking).message
