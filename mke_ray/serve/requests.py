"""From the body of a request to the samples that it sends or names."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.datastructures import UploadFile
from starlette.requests import Request

from mke_ray.data.one_sample import CLIP
from mke_ray.serve.addresses import AllowedUris
from mke_ray.serve.decoding import Sent
from mke_ray.serve.limits import ServeLimits
from mke_ray.serve.problems import ProblemError

_JSON, _FORM = "application/json", "multipart/form-data"
_JSON_BYTES = 1 << 20
_Seconds = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
_Uri = Annotated[str, Field(min_length=1, max_length=1024)]


class NamedSample(BaseModel):
    """A sample whose files are named."""

    model_config = ConfigDict(extra="forbid")

    uri: _Uri | None = Field(default=None, description="File that holds every stream of the sample")
    uris: dict[str, _Uri] | None = Field(default=None, description="A file for each modality")
    start_s: _Seconds | None = Field(default=None, description="Start of the span in seconds")
    end_s: _Seconds | None = Field(default=None, description="End of the span in seconds")

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> "NamedSample":
        if (self.uri is None) == (not self.uris):
            raise ValueError("give uri, or uris with a file for each modality")
        if self.start_s is not None and self.end_s is not None and self.start_s >= self.end_s:
            raise ValueError("start_s has to be below end_s")
        return self


class NamedSamples(BaseModel):
    """Samples whose files are named."""

    model_config = ConfigDict(extra="forbid")

    items: list[NamedSample] = Field(min_length=1)


async def sent_samples(
    request: Request, *, fields: Sequence[str], limits: ServeLimits, uris: AllowedUris
) -> list[Sent | ProblemError]:
    """Return the samples of a request; of one whose files cannot be had, the problem.

    Args:
        request: The request; its body is bounded already.
        fields: Names under which the files of a sample may be sent.
        limits: What a request may take.
        uris: What may be fetched.

    Raises:
        ProblemError: The request as a whole cannot be served.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _FORM:
        return await _of_form(request, fields, limits)
    if kind == _JSON:
        return await _of_json(request, fields, limits, uris)
    raise ProblemError(415, f"a body of type {kind or 'none'}", f"send {_FORM} or {_JSON}")


async def _of_form(
    request: Request, fields: Sequence[str], limits: ServeLimits
) -> list[Sent | ProblemError]:
    """Return uploaded samples: the n-th file of every field belongs to the n-th of them."""
    most = limits.num_items * len(fields)
    async with request.form(max_files=most, max_fields=0) as form:
        parts = {name: form.getlist(name) for name in form}
        _check_fields(parts, fields)
        numbers = {name: len(ones) for name, ones in parts.items()}
        if len(set(numbers.values())) > 1:
            said = ", ".join(f"{number} of {name}" for name, number in numbers.items())
            raise ProblemError(
                422,
                f"fields of unequal number: {said}",
                "send a file of every field for each sample, or one sample in a request",
            )
        num_items = max(numbers.values(), default=0)
        _check_number(num_items, limits)
        contents = {name: [await _content(one) for one in ones] for name, ones in parts.items()}
    return [
        _checked({name: ones[number] for name, ones in contents.items()}, limits)
        for number in range(num_items)
    ]


async def _content(part: Any) -> bytes:
    if not isinstance(part, UploadFile):
        raise ProblemError(422, "a field that is no file", "send every field with a file name")
    return await part.read()


def _checked(files: dict[str, bytes], limits: ServeLimits) -> Sent | ProblemError:
    for name, content in files.items():
        if len(content) > limits.file_bytes:
            return ProblemError(
                413, f"{name} has {len(content):,} bytes", f"send at most {limits.file_bytes:,}"
            )
        if not content:
            return ProblemError(422, f"{name} has no bytes", "send the file itself")
    return Sent(files)


async def _of_json(
    request: Request, fields: Sequence[str], limits: ServeLimits, uris: AllowedUris
) -> list[Sent | ProblemError]:
    """Return samples that are named."""
    body = await request.body()
    if len(body) > _JSON_BYTES:
        raise ProblemError(413, f"JSON of {len(body):,} bytes", f"send at most {_JSON_BYTES:,}")
    try:
        asked = NamedSamples.model_validate_json(body)
    except ValidationError as error:
        raise ProblemError(422, _in_words(error), "see /openapi.json") from None
    _check_number(len(asked.items), limits)
    files = [one.uris or {CLIP: str(one.uri)} for one in asked.items]
    for one in files:
        _check_fields(one, fields)
    contents = await _fetched([uri for one in files for uri in one.values()], limits, uris)
    return [_named(one, contents, named) for one, named in zip(files, asked.items, strict=True)]


async def _fetched(
    wanted: Sequence[str], limits: ServeLimits, uris: AllowedUris
) -> dict[str, bytes | ProblemError]:
    """Return the content of every file, or why it cannot be had.

    Each file is fetched once, however often it is named, and one after the other, since a few
    letters of JSON may name more than the memory holds.

    Raises:
        ProblemError: Together they have more bytes than a request may upload.
    """
    contents: dict[str, bytes | ProblemError] = {}
    left_bytes = limits.body_bytes
    for uri in dict.fromkeys(wanted):
        try:
            content = await asyncio.to_thread(uris.fetch, uri, left_bytes)
        except ProblemError as problem:
            contents[uri] = problem
            continue
        left_bytes -= len(content)
        if left_bytes < 0:
            raise ProblemError(
                413,
                f"files of more than {limits.body_bytes:,} bytes together",
                "name fewer or shorter samples",
            )
        contents[uri] = content
    return contents


def _named(
    files: dict[str, str], contents: dict[str, bytes | ProblemError], asked: NamedSample
) -> Sent | ProblemError:
    """Return one sample, or why the first of its files cannot be had."""
    found: dict[str, bytes] = {}
    for name, uri in files.items():
        content = contents[uri]
        if isinstance(content, ProblemError):
            return content
        found[name] = content
    return Sent(found, asked.start_s, asked.end_s)


def _check_fields(given: dict[str, Any], fields: Sequence[str]) -> None:
    unknown = sorted(set(given) - set(fields))
    if unknown or not given:
        what = f"no field of a sample, but {unknown[:5]}" if unknown else "no field of a sample"
        raise ProblemError(422, what, f"send {', '.join(fields)}")


def _check_number(number: int, limits: ServeLimits) -> None:
    if number > limits.num_items:
        raise ProblemError(
            413, f"{number} samples in one request", f"send at most {limits.num_items} at a time"
        )


def _in_words(error: ValidationError) -> str:
    """Return the first thing that is wrong with a JSON body."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])
