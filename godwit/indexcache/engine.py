"""How the search runs a model: one layer at a time, from any state, with or without the layer's own indexer.

`DecoderEngine` does it for Godwit's decoder; `godwit.indexcache.proxy` for a Transformers model in place. What comes
out is the true model under the plan: an S layer attends to the positions handed down, nothing is approximated.

Letters: T tokens, D hidden, V vocabulary, C tokens in a chunk, K selected positions.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from godwit.base.errors import GodwitError
from godwit.data.batch import IGNORED_LABEL
from godwit.indexcache.calibration import Row
from godwit.models.decoder import Decoder
from godwit.nn.attention import AttnInput
from godwit.nn.layer import DecoderLayer
from godwit.nn.share_plan import SharePlan

# Tokens whose logits exist at one time.
CHUNK = 1024


class State(NamedTuple):
    """What enters a layer: hidden states, and the positions handed down (None before the first layer).

    `handed` is what else layers hand on: keys and values, in families that share those too.
    """

    x_TD: Tensor
    index_TK: Tensor | None
    handed: Mapping[str, Any] | None = None


class RowRun(Protocol):
    """One row in a model."""

    @property
    def first(self) -> State:
        """What enters layer 0."""
        ...

    def step(self, layer: int, state: State, own: bool) -> State:
        """Run a layer; `own` runs its indexer, else it attends to the positions handed down."""
        ...

    def core(self, layer: int, state: State) -> Tensor:
        """The layer's attention over the positions in `state`, before its output projection: (T, heads x width)."""
        ...

    def hidden(self, state: State) -> Tensor:
        """What the model's head reads, (T, D), from the state behind the last layer."""
        ...

    def losses(self, state: State) -> Tensor:
        """float32 losses of the row's counted tokens, in order, from the state behind the last layer."""
        ...

    def dense(self) -> Tensor | None:
        """What the head reads if every layer attends to all earlier tokens; None from a model that cannot."""
        ...


class Engine(Protocol):
    """A model the search can run; a context manager, because a proxy changes the model while it is at work."""

    name: str
    num_layers: int
    topk: int
    vocab_size: int
    max_seq_len: int
    plan: SharePlan

    def rows(self, rows: tuple[Row, ...], *, least: int = 0) -> tuple[Row, ...]:
        """The rows as this engine can run them; if it must take them apart, documents of more than `least` tokens."""
        ...

    def enter(self, row: Row) -> RowRun:
        """Begin a row."""
        ...

    def logits(self, hidden_TD: Tensor) -> Tensor:
        """The model's head."""
        ...

    def __enter__(self) -> "Engine": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class DecoderEngine:
    """Godwit's decoder, on whatever device it is."""

    def __init__(self, model: Decoder, *, name: str = ""):
        topk = model.config.index_topk_or_none
        if topk is None or model.config.plan is None:
            raise GodwitError(
                f"a {model.config.model_type} model has no indexers to share; godwit convert MODEL gives it some"
            )
        self.model = model
        self.name = name or model.config.model_type
        self.num_layers = model.config.num_hidden_layers
        self.vocab_size = model.config.vocab_size
        self.max_seq_len = model.config.max_position_embeddings
        self.topk = topk
        self.plan = model.config.plan
        self._was_training = model.training

    def rows(self, rows: tuple[Row, ...], *, least: int = 0) -> tuple[Row, ...]:
        """As they are: packed rows run in one piece."""
        return rows

    def enter(self, row: Row) -> "DecoderRow":
        """Embed the row's tokens."""
        return DecoderRow(self.model, row)

    def logits(self, hidden_TD: Tensor) -> Tensor:
        """See `Engine`."""
        return self.model.logits(hidden_TD)

    def __enter__(self) -> "DecoderEngine":
        self._was_training = self.model.training
        self.model.eval()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.model.train(self._was_training)


class DecoderRow:
    """One row in Godwit's decoder."""

    def __init__(self, model: Decoder, row: Row):
        self.model = model
        self.row = row
        device = model.lm_head_weight.device
        self.tokens_T = row.tokens_T.to(device)
        context = model.context(self.tokens_T, torch.tensor([0, *row.context.seqlens]).cumsum(0))
        self.batch = AttnInput(context, model.rope.tables(context.positions_T), sparse=True)

    @property
    def first(self) -> State:
        """The embedded tokens."""
        return State(self.model.model.embed_tokens(self.tokens_T), None)

    def step(self, layer: int, state: State, own: bool) -> State:
        """See `RowRun`."""
        output = self.model.model.layers[layer](state.x_TD, self.batch, None if own else state.index_TK)
        return State(output.x_TD, output.index_TK)

    def core(self, layer: int, state: State) -> Tensor:
        """See `RowRun`."""
        block = self.model.model.layers[layer]
        assert isinstance(block, DecoderLayer), block
        project = block.self_attn.get_submodule("o_proj")
        found: list[Tensor] = []
        hook = project.register_forward_pre_hook(lambda _module, given: found.append(given[0]))
        try:
            block.self_attn(block.input_layernorm(state.x_TD), self.batch, state.index_TK)
        finally:
            hook.remove()
        return found[0]

    def hidden(self, state: State) -> Tensor:
        """See `RowRun`."""
        return self.model.model.norm(state.x_TD)

    def losses(self, state: State) -> Tensor:
        """See `RowRun`."""
        return head_losses(self.hidden(state), self.model.logits, self.row.labels_T)

    def dense(self) -> Tensor | None:
        """See `RowRun`."""
        return self.model.features(self.tokens_T, self.batch.context, dense=True).hidden_TD


def head_losses(hidden_TD: Tensor, head: Callable[[Tensor], Tensor], labels_T: Tensor) -> Tensor:
    """Cross-entropy of the counted tokens only, a chunk of logits (`head` of hidden states) at a time; float32, CPU."""
    labels_T = labels_T.to(hidden_TD.device)
    counted_T = labels_T != IGNORED_LABEL
    hidden_TD, labels_T = hidden_TD[counted_T], labels_T[counted_T]
    parts = []
    for hidden_CD, labels_C in zip(hidden_TD.split(CHUNK), labels_T.split(CHUNK), strict=True):
        logits_CV = head(hidden_CD).float()
        parts.append(F.cross_entropy(logits_CV, labels_C.to(logits_CV.device), reduction="none"))
    return torch.cat(parts).cpu() if parts else torch.zeros(0)
