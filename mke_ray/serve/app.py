"""The JSON API over a student, as an ASGI application that knows nothing of Ray."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from mke_ray import __version__
from mke_ray.data.one_sample import field_names
from mke_ray.schema import ModalitySpec
from mke_ray.serve.access import Access
from mke_ray.serve.addresses import AllowedUris
from mke_ray.serve.decoding import DecodedSample, DecoderPool, Sent
from mke_ray.serve.guard import Guard, problem_response
from mke_ray.serve.limits import ServeLimits
from mke_ray.serve.problems import PROBLEM_TYPE, ProblemDocument, ProblemError
from mke_ray.serve.requests import NamedSamples, sent_samples
from mke_ray.serve.served import ServedStudent

Predict = Callable[[DecodedSample], Awaitable[np.ndarray]]

_PREDICT = "/v1/predict"
_PROBLEMS = {
    400: "The body is not what its type says",
    401: "No token, or a wrong one",
    403: "Not allowed: another machine, or another file",
    408: "The body did not come",
    413: "Too many samples or bytes",
    415: "A body of another type",
    422: "No sample could be read, or the body makes no sense",
    429: "Too many requests at once",
    503: "Not answered in time",
}
_logger = logging.getLogger(__name__)


class ItemAnswer(BaseModel):
    """What the student says of one sample."""

    status: str = Field(description="ok, partial where a modality is missing, or bad")
    modalities: dict[str, str] = Field(description="ok, or why a modality is missing")
    classes: list[str] | None = Field(default=None, description="The classes that are named")
    probabilities: dict[str, float] | None = Field(default=None, description="Calibrated, by class")
    class_map_png: str | None = Field(
        default=None, description="Of dense labels the class of every pixel, a PNG in base64"
    )
    problem: ProblemDocument | None = Field(default=None, description="Why a sample is bad")


class Answer(BaseModel):
    """What the student says of the samples of a request, in their order."""

    student: str = Field(description="SHA-256 of the student's weights")
    items: list[ItemAnswer]


class StudentCard(BaseModel):
    """What the student is."""

    digest: str
    kind: str
    classes: list[str]
    modalities: dict[str, dict[str, Any]]
    temperature: float
    promoted: bool | None
    verdict: str | None
    reason: str | None
    versions: dict[str, str]
    limits: dict[str, float]


class Health(BaseModel):
    """That the student is there."""

    status: str


@dataclass(frozen=True, slots=True)
class Parts:
    """What the API works with.

    Args:
        student: The student.
        decoders: What decodes samples.
        predict: Returns the logits of one sample, in a batch with others.
        uris: What may be fetched.
        access: Who may ask.
        limits: What requests may take.
    """

    student: ServedStudent
    decoders: DecoderPool
    predict: Predict
    uris: AllowedUris
    access: Access
    limits: ServeLimits


def build_app(parts: Parts) -> Guard:
    """Return the API, which ends its decoders when it ends."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(parts.decoders.close)

    app = FastAPI(
        lifespan=lifespan,
        title="mke_ray student",
        version=__version__,
        description="What a multimodal student says of clips that are sent or named.",
        docs_url=None,  # those pages load their scripts from elsewhere
        redoc_url=None,
    )
    _add_routes(app, parts)
    _describe(app, is_closed=parts.access.token_digest is not None)
    for kind, handler in ((ProblemError, _on_problem), (HTTPException, _on_http_error)):
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_mistake)
    return Guard(app, parts.access, parts.limits)


def _add_routes(app: FastAPI, parts: Parts) -> None:
    fields = field_names(parts.student.decode)

    @app.get("/v1/health", tags=["student"], openapi_extra={"security": []})
    async def health() -> Health:
        """Say that the student is loaded; needs no token."""
        return Health(status="ready")

    closed: dict[int | str, dict[str, Any]] = {
        code: _problem(_PROBLEMS[code]) for code in (401, 403)
    }

    @app.get("/v1/student", tags=["student"], responses=closed)
    async def student() -> StudentCard:
        """Say what the student reads and names, which one it is, and what the gate said of it."""
        limits = {
            name: getattr(parts.limits, name)
            for name in ("body_bytes", "file_bytes", "num_items", "duration_s", "num_pixels")
        }
        return StudentCard(**parts.student.card(), limits=limits)

    @app.post(
        _PREDICT,
        tags=["student"],
        responses={code: _problem(text) for code, text in _PROBLEMS.items()},
        openapi_extra={"requestBody": _body(fields, parts.student.decode)},
    )
    async def predict(request: Request) -> Answer:
        """Say what the student sees in samples.

        A multipart body has a file for every field of a sample; the n-th file of each field belongs
        to the n-th sample. A JSON body names files below the allowed prefixes. A sample that cannot
        be read has a problem in its place; where none can be read the answer is 422.
        """
        sent = await sent_samples(request, fields=fields, limits=parts.limits, uris=parts.uris)
        items = await asyncio.gather(*(_item(one, parts) for one in sent))
        if all(one.problem is not None for one in items):
            raise _of_all(items)
        return Answer(student=parts.student.loaded.digest, items=list(items))


async def _item(sent: Sent | ProblemError, parts: Parts) -> ItemAnswer:
    """Decode one sample and ask the student."""
    if isinstance(sent, ProblemError):
        return ItemAnswer(status="bad", modalities={}, problem=sent.document())
    decoded = await parts.decoders.decode(sent)
    there = {name: decoded.missing.get(name, "ok") for name in parts.student.decode}
    if decoded.error:
        problem = ProblemError(422, decoded.error, "send a file that plays, of a kind that is read")
        return ItemAnswer(status="bad", modalities=there, problem=problem.document())
    said = parts.student.answer(await parts.predict(decoded))
    status = "partial" if decoded.missing else "ok"
    return ItemAnswer(status=status, modalities=there, **said)


def _of_all(items: Sequence[ItemAnswer]) -> ProblemError:
    """Return the problem of a request of which no sample could be read."""
    first = next(one.problem for one in items if one.problem is not None)
    statuses = {one.problem.status for one in items if one.problem is not None}
    status = first.status if len(statuses) == 1 else 422
    more = f" (and {len(items) - 1} more)" if len(items) > 1 else ""
    return ProblemError(status, f"{first.what}{more}", first.way_out)


def _problem(description: str) -> dict[str, Any]:
    """Return how OpenAPI describes an answer that is a problem."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {"description": description, "content": {PROBLEM_TYPE: {"schema": schema}}}


def _body(fields: Sequence[str], decode: dict[str, ModalitySpec]) -> dict[str, Any]:
    """Return how OpenAPI describes the body of a request."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    forms = {
        name: {**files, "description": _described(decode[name]) if name in decode else _CLIP_TEXT}
        for name in fields
    }
    form = {"type": "object", "properties": forms, "additionalProperties": False}
    form["minProperties"] = 1
    named = NamedSamples.model_json_schema(ref_template="#/components/schemas/{model}")
    del named["$defs"]
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": named},
        },
    }


def _describe(app: FastAPI, *, is_closed: bool) -> None:
    """Add what FastAPI does not see to the description: parts of JSON bodies, and the token."""
    plain = app.openapi

    def whole() -> dict[str, Any]:
        is_new = app.openapi_schema is None
        schema = plain()
        if is_new:
            more = NamedSamples.model_json_schema(ref_template="#/components/schemas/{model}")
            schema["components"]["schemas"] |= more["$defs"]
            schema["components"]["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer"}
            }
            schema["security"] = [{"token": []}] if is_closed else []
        return schema

    app.openapi = whole


_CLIP_TEXT = "A video file, or one of sound, of which every stream is read"


def _described(spec: ModalitySpec) -> str:
    return f"A file of {spec.kind}, or its array as numpy.save writes it"


async def _on_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    return problem_response(error)


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    way_out = "see /openapi.json"
    said = problem_response(ProblemError(error.status_code, f"{error.detail}", way_out))
    for name, value in (error.headers or {}).items():
        said.headers[name] = value
    return said


async def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    return problem_response(ProblemError(422, f"{error}"[:500], "see /openapi.json"))


async def _on_mistake(request: Request, error: Exception) -> JSONResponse:
    _logger.error("%s %s", request.method, request.url.path, exc_info=error)
    return problem_response(ProblemError(500, "a mistake of the server", "its log says more"))
