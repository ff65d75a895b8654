"""The description of the API is true: what schemathesis asks by it is answered as it says."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from served_students import clip, export, served_app
from starlette.testclient import TestClient

from mke_ray.serve.access import access_of
from mke_ray.serve.limits import ServeLimits

TOKEN = "a-token-of-the-tests-0123456789"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
TIMEOUT_S = 300.0  # on a machine that is busy with all the other tests
OPERATIONS = [("/v1/health", "GET"), ("/v1/student", "GET"), ("/v1/predict", "POST")]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("described")
    (folder / "one.mp4").write_bytes(clip())
    access = access_of(None, {"MKE_RAY_SERVE_TOKEN": TOKEN})
    limits = ServeLimits(num_items=3, decode_s=30.0)
    app, _, decoders = served_app(
        export(folder / "student"), access=access, limits=limits, uri_prefixes=[str(folder)]
    )
    decoders.warm_up()
    yield lasting(app)
    decoders.close()


def lasting(app):
    """Return the API so that its end is this module's: every request of schemathesis ends it."""

    async def answered(scope, receive, send):
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for moment in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{moment}.complete"})

    return answered


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_request_is_answered_as_described(app, path, method, mode):
    described = schemathesis.openapi.from_asgi("/openapi.json", app, headers=RIGHT)
    if mode is GenerationMode.NEGATIVE and method == "GET":
        pytest.skip("a request without parameters has nothing that can be wrong")

    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=described[path][method].as_strategy(generation_mode=mode))
    def ask(case):
        answer = case.call(headers=RIGHT, timeout=TIMEOUT_S)
        assert answer.status_code < 500
        # A schema says that a field is a file, and cannot say that it plays.
        case.validate_response(answer, headers=RIGHT, excluded_checks=[positive_data_acceptance])

    ask()


def test_what_describes_the_api_names_every_modality_and_the_token(app):
    described = TestClient(app).get("/openapi.json", headers=RIGHT).json()
    body = described["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    assert set(body["multipart/form-data"]["schema"]["properties"]) == {"clip", "video", "audio"}
    assert described["security"] == [{"token": []}]
    assert described["paths"]["/v1/health"]["get"]["security"] == []
