"""Bad input: the right status, OpenAI's shape, and a message that says what to change."""

import json

import httpx
import pytest

HI = {"messages": [{"role": "user", "content": "hi"}]}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TURN = {"role": "assistant", "tool_calls": [CALL]}


def chat(**more):
    return {**HI, **more}


def said(*rows):
    return {"messages": list(rows)}


USER = HI["messages"][0]
BAD = [
    (chat(model="gpt-5"), 404, "does not exist here; this server has 'nano'", "model"),
    (chat(temperture=1), 400, "unknown field 'temperture': did you mean 'temperature'?", "temperture"),
    (chat(temperature="1"), 400, "temperature", "temperature"),
    (chat(temperature=-1), 400, "temperature is -1", "temperature"),
    (chat(n=10_000), 400, "n is 10000; this server makes at most 16", "n"),
    (chat(n=0), 400, "n is 0", "n"),
    (chat(max_tokens=0), 400, "max_tokens is 0", "max_tokens"),
    (chat(max_tokens=3, max_completion_tokens=4), 400, "differ", "max_tokens"),
    (chat(top_logprobs=3), 400, "needs logprobs", "top_logprobs"),
    (chat(stop=[""]), 400, "stop", "stop"),
    (chat(logit_bias={"x": 1}), 400, "no token id", "logit_bias"),
    (chat(logit_bias={"99999": 1}), 400, "this model's vocabulary", None),
    (chat(stream_options={"include_usage": True}), 400, "stream: true", "stream_options"),
    (chat(priority=10**9), 400, "priority", "priority"),
    (chat(response_format={"type": "json_schema"}), 400, "has no schema", "response_format"),
    (
        chat(response_format={"type": "json_schema", "json_schema": {"schema": {"type": "int"}}}),
        400, 'Unsupported type "int"', None,
    ),
    (chat(guided_regex="("), 400, "parenthesis is not closed", None),
    (chat(guided_regex="a", guided_choice=["b"]), 400, "give one of them", "guided_choice"),
    (chat(structured_outputs={}), 400, "asks for nothing", "structured_outputs"),
    (chat(tool_choice="required"), 400, "there are no tools", "tool_choice"),
    (chat(tools=[{"type": "function", "function": {"name": "a b"}}]), 400, "not usable", "tools[0]"),
    (
        chat(tools=[{"type": "function", "function": {"name": "f"}}], tool_choice={"function": {"name": "g"}}),
        400, "the tools are 'f'", "tool_choice",
    ),
    (said(), 400, "at least 1", "messages"),
    (said({"role": "usr", "content": "x"}), 400, "did you mean 'user'?", "messages"),
    (said({"role": "user", "content": [{"type": "image_url"}]}), 400, "only text parts", "messages"),
    (said(USER, {"role": "assistant", "content": "x"}), 400, "end with a user", "messages[1].role"),
    (said(USER, {"role": "system", "content": "x"}), 400, "system messages come first", "messages[1].role"),
    (said(USER, {"role": "tool", "content": "x"}), 400, "must follow the assistant", "messages[1].role"),
    (said(USER, TURN, USER), 400, "0 results follow", "messages[2]"),
    (said(USER, TURN, {"role": "tool", "content": "x", "tool_call_id": "b"}), 400, "do not answer", None),
    (said(USER, {"role": "user", "content": "\ud800"}), 400, "surrogate", None),
]  # fmt: skip


def check(response: httpx.Response, status: int, message: str, param: str | None = None) -> None:
    body = response.json()
    assert response.status_code == status, body
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    assert message in body["error"]["message"]
    if param is not None:
        assert body["error"]["param"] == param
    assert response.headers["x-request-id"].startswith("req-")


# `stream_options` is a mistake only where nothing streams.
@pytest.mark.parametrize(
    "body, status, message, param, stream",
    [(*bad, stream) for bad in BAD for stream in (False, True) if not (stream and "stream_options" in bad[0])],
)
def test_bad_chats(http, body, status, message, param, stream: bool) -> None:
    data = json.dumps({**body, "stream": stream})  # ASCII, so that half a surrogate pair can be sent
    response = http.post("/v1/chat/completions", content=data, headers={"Content-Type": "application/json"})
    check(response, status, message, param)


@pytest.mark.parametrize(
    "body, message",
    [
        ({"prompt": []}, "empty list"),
        ({"prompt": [5, 99999]}, "vocabulary"),
        ({"prompt": [5, -1]}, "vocabulary"),
        ({"prompt": "x", "best_of": 3}, "best_of"),
        ({"prompt": ["x"] * 17}, "at most 16"),
        ({"prompt": "x", "logprobs": 1000}, "logprobs"),
        ({"prompt": [1.5]}, "prompt"),
    ],
)
def test_bad_completions(http, body: dict, message: str) -> None:
    check(http.post("/v1/completions", json=body), 400, message)


def test_a_prompt_longer_than_the_model(http) -> None:
    response = http.post("/v1/completions", json={"prompt": "a b " * 20_000})
    check(response, 400, "prompt and answer together can have 16384; shorten it", "prompt")
    assert response.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "the body is empty"),
        (b"{", "not valid JSON at byte 1"),
        (b"[1]", "dictionary"),
        (b'{"messages": "\xff\xfe"}', "UTF-8"),
        (b"[" * 100_000, "could not be read"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}', "finite"),
    ],
)
def test_bodies_that_are_no_bodies(http, content: bytes, message: str) -> None:
    response = http.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
    check(response, 400, message)


def test_ten_megabytes_are_too_many(http) -> None:
    content = b'{"prompt": "' + b"a" * 10_000_000 + b'"}'
    check(http.post("/v1/completions", content=content), 413, "this server takes 8,388,608")

    def pieces():
        for _ in range(20):
            yield b"a" * 1_000_000

    # Chunked, so no length is announced.
    check(http.post("/v1/completions", content=pieces()), 413, "--max-body-bytes")


@pytest.mark.parametrize("key", [None, "Bearer wrong", "Bearer", "Basic x", "Bearer \xe9"])
def test_wrong_keys(endpoint, key: str | None) -> None:
    headers = {} if key is None else {"Authorization": key.encode("latin-1")}
    base = endpoint.base_url.removesuffix("/v1")
    for path in ("/v1/models", "/metrics", "/inspect/sample"):
        response = httpx.get(base + path, headers=headers)
        check(response, 401, "Authorization: Bearer KEY")
        assert response.headers["www-authenticate"] == "Bearer"
    for path in ("/health", "/", "/inspector", "/pages/chat.js"):
        assert httpx.get(base + path, headers=headers).status_code == 200


def test_unknown_paths_and_methods(http) -> None:
    check(http.get("/v1/nothing"), 404, "there is no /v1/nothing here")
    check(http.get("/v1/completions"), 405, "use POST")


def test_the_inspector_says_what_it_cannot_do(http) -> None:
    text = http.get("/inspect/sample").json()["prompt"]
    for more, message in (
        ({"prompt": "x"}, "give 2 to 4096"),
        ({"prompt": text[:400]}, "nothing to choose"),
        ({"plan": "SSS"}, "must begin with F"),
        ({"plan": "FSF"}, "3 letters and the model 12 layers"),
        ({"plan": "1/0"}, "1/n"),
        ({"topk": 0}, "top-k from 1"),
        ({"position": 100_000}, "position is 100000"),
        ({"prompt": [1, 2, 5000] * 200}, "token ids go from 0"),
    ):
        path = "/inspect/token" if "position" in more else "/inspect"
        check(http.post(path, json={"prompt": text, **more}), 400, message)
