"""What is said of an endpoint before anything is paid for."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from godwit.base.errors import GodwitError
from godwit.synth.endpoint import Endpoint
from godwit.synth.line import Limits
from godwit.synth.probe import probe
from godwit.text.forms import Room
from tests.synth import endpoint as scripted


def check(
    url: str, *, role: str = "writer", model: str = "writer-1", key: str = scripted.KEY, room: Room | None = None
) -> Endpoint:
    return probe(Endpoint(url=url, model=model, key=key, room=room), role=role, limits=Limits())


@contextmanager
def answering(
    status: int, body: bytes, headers: dict[str, str] | None = None, *, unless: tuple[bytes, bytes] | None = None
) -> Iterator[str]:
    """A server that says the same to everything; but the second of `unless` to what holds the first."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            other = unless is not None and unless[0] in asked
            said = unless[1] if unless is not None and other else body
            self.send_response(200 if other else status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_good_endpoint_tells_its_context_and_is_not_charged() -> None:
    with scripted.serving(lambda _: "x", context=4096) as served:
        found = check(served.url)
    assert found.context == 4096 and found.max_tokens_name == "max_tokens" and served.num_served == 0


def test_a_wrong_key_is_named_by_its_variable_and_not_shown() -> None:
    with scripted.serving(lambda _: "x") as served, pytest.raises(GodwitError) as error:
        check(served.url, key="sk-my-own-secret-key")
    assert (
        "OPENAI_API_KEY" in str(error.value)
        and "--key-env" in str(error.value)
        and "own-secret" not in str(error.value)
    )


def test_an_unknown_model_and_an_unknown_judge() -> None:
    with scripted.serving(lambda _: "x") as served:
        with pytest.raises(GodwitError, match=r"no writer model 'writer-2' .--model.: did you mean 'writer-1'"):
            check(served.url, model="writer-2")
        with pytest.raises(GodwitError, match=r"no judge model 'jugde-1' .--judge-model.: did you mean 'judge-1'"):
            check(served.url, role="judge", model="jugde-1")


def test_what_is_no_such_endpoint() -> None:
    with answering(200, b"<html>hello</html>") as url, pytest.raises(GodwitError, match="not an OpenAI-compatible"):
        check(url)
    with answering(200, b'{"data": []}') as url, pytest.raises(GodwitError, match="its answer has no choices"):
        check(url)
    with (
        answering(404, b"nothing here") as url,
        pytest.raises(GodwitError, match=r"no chat completions.*ends with /v1"),
    ):
        check(url)
    refusal = b'{"error": {"message": "unknown field seed"}}'
    with answering(400, refusal) as url, pytest.raises(GodwitError, match=r"of one token with.*--no-send-seed"):
        check(url)
    with pytest.raises(GodwitError, match="cannot be reached"):
        check("http://127.0.0.1:9/v1")


def test_a_key_is_not_carried_to_another_host_nor_shown_for_what_is_wrong_in_it() -> None:
    moved = {"Location": "http://127.0.0.1:9/v1/models"}
    with answering(307, b"moved", moved) as url, pytest.raises(GodwitError, match="with status 307"):
        check(url)
    with scripted.serving(lambda _: "x") as served, pytest.raises(GodwitError, match="characters") as error:
        check(served.url, key="sk-secret\nX-Other: 1")
    assert "secret" not in str(error.value) and served.num_served == 0


def test_a_server_that_is_busy_passes_and_another_spelling_of_max_tokens_is_learnt() -> None:
    with answering(503, b"busy") as url:
        assert check(url).max_tokens_name == "max_tokens"
    refusal, answer = b'{"error": {"message": "use max_completion_tokens"}}', b'{"choices": [{}]}'
    with answering(400, refusal) as url, pytest.raises(GodwitError, match="status 400"):
        check(url)
    with answering(400, refusal, unless=(b'"max_completion_tokens": 1', answer)) as url:
        assert check(url).max_tokens_name == "max_completion_tokens"


def test_an_endpoint_that_takes_no_forms_says_so_before_it_is_paid() -> None:
    refusal = b'{"error": {"message": "Unrecognized request argument supplied: structured_outputs"}}'
    models = b'{"data": [{"id": "writer-1"}], "choices": [{}]}'
    with answering(200, models) as url:
        assert check(url, room=Room()).room == Room()
    with answering(400, refusal) as url, pytest.raises(GodwitError, match="it takes no forms, leave --forms out"):
        check(url, room=Room())
