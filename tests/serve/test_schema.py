"""schemathesis, on the server's own OpenAPI: whatever fits the schema, and whatever does not, is no server error."""

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")

schema = schemathesis.pytest.from_fixture("openapi")


@pytest.fixture(scope="module")
def openapi(endpoint):
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    return schemathesis.openapi.from_url(
        endpoint.base_url.removesuffix("/v1") + "/openapi.json", headers=headers, timeout=60
    )


@schema.parametrize()
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_server_error(case, endpoint) -> None:
    if isinstance(case.body, dict):
        # Enough of an answer; what is long takes long on any server.
        case.body["max_tokens"] = 2
        case.body.pop("max_completion_tokens", None)
    response = case.call(headers={"Authorization": f"Bearer {endpoint.api_key}"}, timeout=120)
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_the_server_is_well_afterwards(http: httpx.Client, idle) -> None:
    assert http.get("/health").status_code == 200
    idle()
