"""A file that cannot be stored is refused in a sentence, not with a bare "Internal Server Error"."""

from __future__ import annotations

from typing import Any

from models.serving.errors import told


class Uploads:
    """ASGI middleware around Gradio's upload, whose answer's words the page shows as they are."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http" or not scope["path"].endswith("/upload"):
            return await self.app(scope, receive, send)
        begun = False

        async def noted(message: dict) -> None:
            nonlocal begun
            begun = True
            await send(message)
        try:
            await self.app(scope, receive, noted)
        except Exception as error:
            if begun:
                raise
            await _refusal(error)(scope, receive, send)


def _refusal(error: Exception):
    from starlette.responses import PlainTextResponse
    return PlainTextResponse(f"Your file could not be uploaded. {told(error)}", 507)


def middleware() -> list:
    """For FastAPI, like visualizers/server/security_headers.py, but everywhere."""
    from starlette.middleware import Middleware
    return [Middleware(Uploads)]
