"""Serve a model: OpenAI's API, a chat page, and an inspector of its index sharing.

Examples:
  godwit serve nano                               http://127.0.0.1:8000: chat at /, inspector at /inspector
  godwit serve path/to/hf_folder --port 9000 --plan 1/4
  godwit serve nano --max-num-seqs 16 --deterministic
  GODWIT_API_KEY=secret godwit serve nano --host 0.0.0.0

MODEL is a Hugging Face folder, the folder of a finished run, or the name of a bundled model. Only this machine can
reach the server unless --host says otherwise, and then clients need a key. Ctrl-C lets running requests finish.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from godwit.base.errors import MissingPartError
from godwit.cli.options import Positional, parse
from godwit.cli.targets import model_folder

KEY_VARIABLE = "GODWIT_API_KEY"


@dataclass(frozen=True)
class Options:
    """Options of `godwit serve`."""

    model: Annotated[Positional[str], tyro.conf.arg(metavar="MODEL")]
    """folder of the model or of a finished run, or a bundled model's name"""
    host: str = "127.0.0.1"
    """address to listen on; 0.0.0.0 for every machine"""
    port: int = 8000
    """port to listen on; 0 takes a free one and prints it"""
    api_key: str | None = None
    """key that clients must send; better in the variable GODWIT_API_KEY, where `ps` does not show it"""
    public: bool = False
    """serve other machines without a key"""
    name: str | None = None
    """the model's name in requests; its folder's if not given"""
    plan: str | None = None
    """which layers run their own indexer: FSSSF... or 1/4; the model's own if not given"""
    speculate: int = 0
    """tokens that the prediction layer drafts for each step"""
    deterministic: bool = False
    """a request's tokens do not depend on what else runs"""
    prefix_cache: bool = True
    """keep what prompts begin with"""
    max_num_seqs: int = 64
    """outputs made at once; others wait"""
    max_num_batched_tokens: int = 2048
    """prompt tokens of one step"""
    max_model_len: int | None = None
    """prompt and output together; as long as the model can if not given"""
    num_pages: int | None = None
    """pages of 256 tokens in the cache; as many as --memory holds if not given"""
    memory: float = 1.0
    """GB of the cache"""
    max_queue: int = 256
    """outputs that may wait; more are answered 429"""
    max_n: int = 16
    """outputs of one request"""
    max_body_bytes: int = 8 << 20
    """size of a request; larger ones are answered 413"""
    request_seconds: float = 600.0
    """longest time of a request"""
    write_seconds: float = 60.0
    """how long the reader of a stream may take nothing"""
    drain_seconds: float = 30.0
    """how long running requests may go on after Ctrl-C or SIGTERM"""
    chat_style: str | None = None
    """how prompts are written (glm45, glm47, glm51); as the model's folder says if not given"""
    pages: bool = True
    """serve the chat page and the inspector"""
    inspect_tokens: int = 4096
    """longest text of the inspector"""
    log_prompts: bool = False
    """put prompts and answers into the log"""
    until_stdin_closes: bool = False
    """stop when stdin ends (for programs that start a server)"""


def run(arguments: list[str]) -> int:
    """Load and serve until a signal comes."""
    options = parse(Options, arguments, verb="serve", about=__doc__)
    folder = model_folder(options.model)
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingPartError(f"the server needs {error.name}; type: pip install 'godwit[serve]'") from error
    from godwit.engine.config import EngineConfig
    from godwit.serve.config import ServeConfig
    from godwit.serve.run import serve

    shared = (
        "host", "port", "public", "max_queue", "max_n", "max_body_bytes", "request_seconds", "write_seconds",
        "drain_seconds", "chat_style", "pages", "inspect_tokens", "log_prompts",
    )  # fmt: skip
    config = ServeConfig(
        **{name: getattr(options, name) for name in shared},
        api_key=options.api_key or os.environ.get(KEY_VARIABLE) or None,
        name=options.name or _name_of(options.model, folder),
    )
    limits = (
        "plan", "speculate", "deterministic", "prefix_cache", "max_num_seqs", "max_num_batched_tokens",
        "max_model_len", "num_pages",
    )  # fmt: skip
    engine = EngineConfig(**{name: getattr(options, name) for name in limits}, memory=max(1, int(options.memory * 1e9)))
    serve(folder, config=config, engine=engine, until_stdin_closes=options.until_stdin_closes)
    return 0


def _name_of(model: str, folder: Path) -> str:
    """The last word of what was typed; of a run, the run's."""
    return Path(model).resolve().name if Path(model).exists() else folder.name
