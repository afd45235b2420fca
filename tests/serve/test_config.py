"""Who may be let in, and values that make no sense."""

import pytest

from godwit.base.errors import GodwitError
from godwit.serve.config import ServeConfig, is_loopback


def test_other_machines_need_a_key_or_a_word() -> None:
    assert ServeConfig().local
    for host in ("0.0.0.0", "::", "192.168.1.5", "box.example"):
        with pytest.raises(GodwitError, match=r"give --api-key KEY .* or --public"):
            ServeConfig(host=host)
        assert not ServeConfig(host=host, api_key="k").local
        assert ServeConfig(host=host, public=True).api_key is None


def test_names_of_this_machine() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "a.localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "localhost.example", "10.0.0.1", "")))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"port": 70_000}, "port is 70000"),
        ({"api_key": "a b"}, "without blanks"),
        ({"api_key": "é"}, "ASCII"),
        ({"max_n": 0}, "max_n is 0"),
        ({"request_seconds": float("nan")}, "request_seconds is nan"),
        ({"max_body_bytes": 5}, "give 1024 or more"),
    ],
)
def test_values_out_of_range(values: dict, message: str) -> None:
    with pytest.raises(GodwitError, match=message):
        ServeConfig(**values)
