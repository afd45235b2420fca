"""Endpoints are asked before money is spent: each way in which one can be wrong has its own words, without the key."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from godwit.base.endpoint import Address, Price
from godwit.base.errors import GodwitError
from godwit.evals.harness.endpoint import checked
from tests.synth.endpoint import KEY, serving

pytest.importorskip("openai")


@pytest.fixture
def key(monkeypatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """A server that is no endpoint: a web page for everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html>hello</html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            """Stay silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def check(url: str, model: str = "writer-1") -> Address:
    return checked(Address(url=url, model=model, key_env="MY_KEY"), option="--model")


def test_a_good_one_tells_its_models_context(key) -> None:
    with serving(lambda request: "x", context=4096) as endpoint:
        assert check(endpoint.url).context == 4096
    with serving(lambda request: "x", models=("only",)) as endpoint:
        assert check(endpoint.url, "").model == "only"


def test_wrong_models_and_keys(key, monkeypatch) -> None:
    with serving(lambda request: "x") as endpoint:
        with pytest.raises(GodwitError, match="did you mean 'writer-1'"):
            check(endpoint.url, "writer-2")
        with pytest.raises(GodwitError, match="which model\\? it has writer-1, judge-1; give --model-name"):
            check(endpoint.url, "")
        monkeypatch.setenv("MY_KEY", "sk-wrong-key-123")
        with pytest.raises(GodwitError, match="refuses the key in MY_KEY \\(status 401\\)") as caught:
            check(endpoint.url)
        assert "sk-" not in str(caught.value)
        assert endpoint.num_served == 0


def test_what_is_no_endpoint(key, page: str) -> None:
    with pytest.raises(GodwitError, match="is not an OpenAI-compatible endpoint"):
        check(page)
    with pytest.raises(GodwitError, match="cannot be reached"):
        check("http://127.0.0.1:9/v1")
    with serving(lambda request: "x") as endpoint, pytest.raises(GodwitError, match="usually ends with /v1"):
        check(endpoint.url.removesuffix("/v1"))


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x/v1", "http://", "http://user:secret@host/v1", "http://h/v1?key=secret"]
)
def test_addresses_that_are_none_or_hold_a_key(url: str) -> None:
    with pytest.raises(GodwitError) as caught:
        Address(url=url)
    assert "secret" not in str(caught.value)


def test_prices() -> None:
    assert Price.parse("2.5/10").of(1_000_000, 100_000) == 3.5
    for text in ("2.5", "a/b", "-1/2", "1/2/3", "nan/1"):
        with pytest.raises(GodwitError, match="price"):
            Price.parse(text)
