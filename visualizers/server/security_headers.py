"""Security headers, where the server is ours. On a Space the platform sets its own, and its page needs other hosts.

Nothing but this host may be asked for anything. Scripts may be compiled in the page, because Gradio does so with its
templates. Every page may show the app in a frame: that is how it gets into course pages, and there is no sign-in whose
clicks could be stolen.
"""

from __future__ import annotations

import os
from typing import Any

CONTENT = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "media-src": "'self' data: blob:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "*",
}
HEADERS = {
    "content-security-policy": "; ".join(f"{name} {sources}" for name, sources in CONTENT.items()),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), clipboard-write=(self)",
}


class Headers:
    """ASGI middleware that adds HEADERS to every answer that does not set them itself."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        async def added(message: dict) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *((k, v) for k, v in ENCODED if k not in there)]
            await send(message)
        await self.app(scope, receive, added if scope["type"] == "http" else send)


ENCODED = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


def middleware() -> list:
    """For FastAPI: ours, or nothing on a Space."""
    from starlette.middleware import Middleware
    return [] if os.environ.get("SPACE_ID") else [Middleware(Headers)]
