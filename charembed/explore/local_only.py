"""Refuse requests that do not come from the page itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost")
HEADERS = {
    # Scripts and styles from files of the page alone; matplotlib's pictures have styles of their own.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
MAX_BYTES = 200_000
"""Length of the body of a request, at most."""


class LocalOnly:
    """Answers only requests for this machine by name, and commands only from the page itself.

    Any site that is open in a browser can send requests to this machine. It cannot hide its origin, and a site that
    points its own name to this machine (DNS rebinding) sends that name as the host.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        from starlette.responses import PlainTextResponse

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        if scope["type"] != "http":
            return
        reason = _refusal(scope)
        app = self._app if reason is None else PlainTextResponse(reason, status_code=403)
        await app(scope, receive, send_with_headers)


def _refusal(scope: Scope) -> str | None:
    """Return why a request is refused; None if it is not."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host", "")
    if host.rsplit(":", 1)[0] not in HOSTS:
        return f"This page is for the machine it runs on: {' or '.join(HOSTS)}."
    if headers.get("origin", f"http://{host}") != f"http://{host}":
        return "This page answers itself only, not other sites."
    if scope["method"] == "POST":
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return "This page answers itself only, not other sites."
        # A form of another site cannot send JSON.
        if headers.get("content-type", "").partition(";")[0] != "application/json":
            return "A request must have the type application/json."
        if not headers.get("content-length", "").isdecimal() or int(headers["content-length"]) > MAX_BYTES:
            return f"A request has at most {MAX_BYTES:,} bytes."
    return None
