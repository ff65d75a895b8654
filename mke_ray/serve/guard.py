"""What stands before every request: who asks, how many at once, how much, and for how long."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mke_ray.serve.access import Access
from mke_ray.serve.limits import ServeLimits
from mke_ray.serve.problems import PROBLEM_TYPE, ProblemError

OPEN_PATHS = ("/v1/health",)  # what a load balancer asks, which has no token
_AGAIN_S = 1


class Guard:
    """An ASGI application around another.

    Args:
        app: The other.
        access: Who may ask.
        limits: What requests may take.
    """

    def __init__(self, app: ASGIApp, access: Access, limits: ServeLimits) -> None:
        self._app = app
        self._access = access
        self._limits = limits
        self._num_at_once = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = _Said(send)
        try:
            self._check(scope)
            self._num_at_once += 1
            try:
                await self._bounded(scope, receive, said)
            finally:
                self._num_at_once -= 1
        except ProblemError as problem:
            if not said.has_begun:
                await problem_response(problem)(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if scope["path"] in OPEN_PATHS:
            return
        self._access.check(headers)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limits.body_bytes:
            raise self._too_large()
        if scope["method"] == "POST" and self._num_at_once >= self._limits.num_at_once:
            raise ProblemError(
                429, f"{self._num_at_once} requests are being worked on", "come again in a second"
            )

    async def _bounded(self, scope: Scope, receive: Receive, said: "_Said") -> None:
        """Serve a request that ends in time.

        Raises:
            ProblemError: It does not.
        """
        request_s = self._limits.request_s
        try:
            async with asyncio.timeout(request_s):
                await self._app(scope, _Body(receive, self._limits, self._too_large()), said)
        except TimeoutError:
            raise ProblemError(
                503, f"no answer within {request_s:g} s", "send fewer samples, or come again later"
            ) from None

    def _too_large(self) -> ProblemError:
        most = self._limits.body_bytes
        return ProblemError(
            413, f"a body of more than {most:,} bytes", "send fewer or shorter samples"
        )


class _Said:
    """Sends, and remembers that an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        self.has_begun = True
        await self._send(message)


class _Body:
    """Receives a body that may be neither too large nor too slow."""

    def __init__(self, receive: Receive, limits: ServeLimits, too_large: ProblemError) -> None:
        self._receive = receive
        self._limits = limits
        self._too_large = too_large
        self._num_bytes = 0
        self._is_whole = False

    async def __call__(self) -> MutableMapping[str, Any]:
        if self._is_whole:
            return await self._receive()  # waits for the client to go, however long it takes
        try:
            message = await asyncio.wait_for(self._receive(), self._limits.upload_s)
        except TimeoutError:
            wait_s = self._limits.upload_s
            raise ProblemError(408, f"nothing was sent for {wait_s:g} s", "send it again") from None
        self._is_whole = not message.get("more_body", False)
        self._num_bytes += len(message.get("body", b""))
        if self._num_bytes > self._limits.body_bytes:
            raise self._too_large
        return message


def problem_response(problem: ProblemError) -> JSONResponse:
    """Return the answer that says what is wrong."""
    headers = {
        401: {"WWW-Authenticate": "Bearer"},
        429: {"Retry-After": f"{_AGAIN_S}"},
        503: {"Retry-After": f"{_AGAIN_S}"},
    }
    return JSONResponse(
        problem.document().model_dump(),
        status_code=problem.status,
        media_type=PROBLEM_TYPE,
        headers=headers.get(problem.status),
    )
