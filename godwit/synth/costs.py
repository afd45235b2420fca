"""What a run will cost, from a few real rows, and what it did cost, from the journal; judges apart from writers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from godwit.base.progress import short_number
from godwit.synth.endpoint import Endpoint
from godwit.synth.exchange import Account

UNKNOWN = "unknown (give --price IN/OUT, dollars per million tokens)"


@dataclass(frozen=True)
class Bill:
    """Calls of one role and stage. `dollars` is None where no price is known."""

    role: str
    stage: str
    model: str
    calls: float
    prompt_tokens: float
    completion_tokens: float
    dollars: float | None

    def json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def bill(
    role: str, stage: str, model: str, calls: float, tokens: tuple[float, float], endpoints: Mapping[str, Endpoint]
) -> Bill:
    """With the price of the role's endpoint, if it is still the same model."""
    endpoint = endpoints.get(role)
    price = endpoint.price if endpoint is not None and endpoint.model == model else None
    return Bill(role, stage, model, calls, *tokens, None if price is None else round(price.of(*tokens), 6))


def estimate(
    accounts: Sequence[Account], *, num_tried: int, num_rows: int, endpoints: Mapping[str, Endpoint]
) -> list[Bill]:
    """What all rows come to if they are like those tried."""
    factor = num_rows / num_tried
    return [
        bill(
            account.role,
            account.stage,
            account.model,
            (account.sent + account.reused) * factor,
            (account.prompt_tokens * factor, account.completion_tokens * factor),
            endpoints,
        )
        for account in accounts
    ]


def total(bills: Sequence[Bill], role: str | None = None) -> str:
    """Dollars of all bills (of one role), in words."""
    chosen = [each for each in bills if role in (None, each.role)]
    known = [each.dollars for each in chosen if each.dollars is not None]
    if len(known) == len(chosen):
        return f"${sum(known):,.4f}"
    return UNKNOWN if not known else f"${sum(known):,.4f} and more: {UNKNOWN}"


def rows(bills: Sequence[Bill]) -> list[tuple[str, ...]]:
    """Lines of a table under `HEAD`."""
    return [
        (
            each.role,
            each.stage,
            each.model,
            short_number(round(each.calls)),
            short_number(round(each.prompt_tokens)),
            short_number(round(each.completion_tokens)),
            "unknown" if each.dollars is None else f"{each.dollars:,.4f}",
        )
        for each in bills
    ]


HEAD = ("role", "stage", "model", "calls", "tokens in", "tokens out", "dollars")
