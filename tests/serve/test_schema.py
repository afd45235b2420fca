"""schemathesis, on the server's own OpenAPI: whatever fits the schema, and whatever does not, is no server error."""

import contextlib

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")

MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]


@pytest.mark.parametrize("mode", MODES, ids=["fits", "does-not-fit"])
def test_no_server_error(endpoint, http, idle, mode) -> None:
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    schema = schemathesis.openapi.from_url(endpoint.base_url.replace("/v1", "/openapi.json"), headers=headers)
    seen = set()

    def explore(operation) -> None:
        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=20,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case) -> None:
            if isinstance(case.body, dict) and "/v1/" in case.path:
                # A few tokens tell as much as many, and do not take as long.
                case.body["max_tokens"] = 2
                case.body.pop("max_completion_tokens", None)
            response = case.call(headers=headers, timeout=120)
            seen.add((operation.label, response.status_code))
            assert response.status_code < 500, (case.body, response.text)
            if response.status_code >= 400 and case.method != "HEAD":
                assert set(response.json()["error"]) == {"message", "type", "param", "code"}

        check()

    for found in schema.get_all_operations():
        # What takes nothing cannot be asked wrongly.
        with contextlib.suppress(Unsatisfiable):
            explore(found.ok())
    labels = {label for label, _ in seen}
    assert {"POST /v1/chat/completions", "POST /v1/completions", "POST /inspect", "POST /tokenize"} <= labels
    assert http.get("/health").status_code == 200
    idle()
