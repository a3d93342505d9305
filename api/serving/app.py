"""Defines the routes, and the status of each error.

/                       returns the page (and its script, its style, the picture of the machine)
/health                 returns whether the server answers, and needs no key
/v1/models[/NAME]       returns the model and the machine
/v1/completions         continues a text
/v1/chat/completions    continues a chat, if the model has a template

400 a field is wrong                  408 the body arrives too slowly
401 the key is missing or wrong       413 the body is too large
403 the request names a wrong host    415 the body is no JSON
404 the path does not exist           429 the queue is full
405 the method does not exist         500 the server has a defect
                                      503 the machine failed, or the server is being stopped
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response

from lutern.api.serving.answers import Answer, error_response
from lutern.api.serving.errors import ApiError, defect
from lutern.api.serving.requests import ChatRequest, CompletionRequest, parse, read_body
from lutern.api.serving.service import Service

PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/machine.svg": ("machine.svg", "image/svg+xml"),
}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def make_app(service: Service) -> FastAPI:
    """Return the application of a service. The engine runs as long as the application."""

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        service.engine.start()
        try:
            yield
        finally:
            service.engine.stop()

    def check_host(request: Request) -> None:
        if service.only_local and not _is_local(request.headers.get("host", "")):
            raise ApiError(
                403, "this server answers only to the name localhost; use that name, or start it with --host.", "host"
            )

    def check_key(request: Request) -> None:
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        given = key.strip() if kind.lower() == "bearer" else ""
        if service.key and not hmac.compare_digest(given.encode(), service.key.encode()):
            raise ApiError(
                401,
                "the key is missing or wrong; send Authorization: Bearer KEY.",
                "invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    app = FastAPI(
        title="lutern",
        lifespan=running,
        dependencies=[Depends(check_host)],
        docs_url=None,  # FastAPI's documentation page loads its scripts from another server
        redoc_url=None,
        openapi_url=None,
    )
    app.state.engine = service.engine
    behind_key = [Depends(check_key)]

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models", dependencies=behind_key)
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [service.describe()]}

    @app.get("/v1/models/{name:path}", dependencies=behind_key)
    async def model(name: str) -> dict[str, Any]:
        service.check_model(name)
        return service.describe()

    @app.post("/v1/completions", dependencies=behind_key)
    async def completions(request: Request) -> Response:
        body = await read_body(request, service.limits)
        return await Answer.begin(service, parse(CompletionRequest, body))

    @app.post("/v1/chat/completions", dependencies=behind_key)
    async def chat_completions(request: Request) -> Response:
        body = await read_body(request, service.limits)
        return await Answer.begin(service, parse(ChatRequest, body))

    for path, (file, kind) in PAGE.items():
        app.add_api_route(path, _page(file, kind), methods=["GET"])
    _add_errors(app)
    return app


def _page(file: str, kind: str) -> Callable[[], Awaitable[Response]]:
    content = (resources.files("lutern.api.serving") / "page" / file).read_bytes()

    async def answer() -> Response:
        return Response(content, media_type=kind, headers=PAGE_HEADERS)

    return answer


def _add_errors(app: FastAPI) -> None:
    async def refused(request: Request, error: Exception) -> Response:
        return error_response(error if isinstance(error, ApiError) else defect())

    async def not_found(request: Request, error: Exception) -> Response:
        return error_response(ApiError(404, f"there is nothing at {request.scope['path'][:80]}.", "not_found"))

    async def no_method(request: Request, error: Exception) -> Response:
        return error_response(ApiError(405, f"{request.scope['path'][:80]} takes no {request.method}.", "method"))

    app.add_exception_handler(ApiError, refused)
    app.add_exception_handler(404, not_found)
    app.add_exception_handler(405, no_method)
    app.add_exception_handler(Exception, refused)


def _is_local(header: str) -> bool:
    """Return whether a request's host, with or without a port, is a name or address of this computer alone."""
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


__all__ = ["make_app"]
