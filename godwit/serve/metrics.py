"""What Prometheus reads: the engine's counts when it asks, and the requests' times as they end.

Each server has a registry of its own, so that several in one process (tests) do not share counts.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from godwit.engine.outputs import EngineStats

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_PER_TOKEN = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

# name, attribute of EngineStats, help; what is there now, and what only grows.
_GAUGES = (
    ("running_choices", "num_running", "outputs in the batch"),
    ("waiting_choices", "num_waiting", "outputs in the queue"),
    ("pages", "num_pages", "pages of the cache"),
    ("free_pages", "num_free_pages", "pages nobody needs now (the prefix cache may fill them)"),
    ("weight_version", "weight_version", "how often weights were swapped"),
)
_COUNTERS = (
    ("prefix_query_tokens", "prefix_query_tokens", "prompt tokens looked for in the prefix cache"),
    ("prefix_hit_tokens", "prefix_hit_tokens", "prompt tokens found there"),
    ("drafts_proposed", "drafts_proposed", "tokens the prediction layer proposed"),
    ("drafts_accepted", "drafts_accepted", "of those, tokens that were sampled too"),
    ("prompt_tokens", "prompt_tokens", "prompt tokens computed"),
    ("generated_tokens", "generated_tokens", "tokens sampled"),
    ("preemptions", "preemptions", "outputs that lost their pages and were computed again"),
    ("engine_steps", "num_steps", "steps that ran the model"),
    ("engine_step_seconds", "step_seconds", "seconds in steps"),
    ("engine_model_seconds", "model_seconds", "of those, seconds in the decoder"),
)


class Metrics:
    """Counts and times of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.engine = _EngineCollector()
        self.registry.register(self.engine)
        self.requests = Counter(
            "godwit_requests", "requests by route and status", ["route", "status"], registry=self.registry
        )
        self.first_token_seconds = Histogram(
            "godwit_time_to_first_token_seconds", "from a request's arrival to its first token",
            registry=self.registry, buckets=_SECONDS,
        )  # fmt: skip
        self.request_seconds = Histogram(
            "godwit_request_seconds", "from a request's arrival to its last byte",
            registry=self.registry, buckets=_SECONDS,
        )  # fmt: skip
        self.token_seconds = Histogram(
            "godwit_time_per_output_token_seconds", "between a request's tokens, mean of the request",
            registry=self.registry, buckets=_PER_TOKEN,
        )  # fmt: skip

    def text(self, stats: EngineStats, *, now: float) -> bytes:
        """The page Prometheus reads; `now` in seconds on any clock that does not go back."""
        self.engine.update(stats, now)
        return generate_latest(self.registry)


class _EngineCollector(Collector):
    """The engine's counts as metrics, and tokens a second since they were last read."""

    def __init__(self) -> None:
        self._stats: EngineStats | None = None
        self._last: tuple[float, int] | None = None
        self._rate = 0.0

    def update(self, stats: EngineStats, now: float) -> None:
        if self._last is not None and now > self._last[0]:
            self._rate = (stats.generated_tokens - self._last[1]) / (now - self._last[0])
        self._stats, self._last = stats, (now, stats.generated_tokens)

    def collect(self) -> Iterator[Metric]:
        if self._stats is None:
            return
        for name, attribute, text in _GAUGES:
            yield GaugeMetricFamily(f"godwit_{name}", text, value=getattr(self._stats, attribute))
        for name, attribute, text in _COUNTERS:
            yield CounterMetricFamily(f"godwit_{name}", text, value=getattr(self._stats, attribute))
        text = "tokens sampled a second since the page was last read"
        yield GaugeMetricFamily("godwit_tokens_per_second", text, value=self._rate)
