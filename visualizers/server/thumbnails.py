"""Serves the gallery's pictures: small ones of the recorded traces, drawn when first asked for and kept in memory."""

from __future__ import annotations

from functools import lru_cache

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.engine.method import offered
from models.serving import recorded

KEEP = {"cache-control": "public, max-age=3600"}


@lru_cache(maxsize=256)
def picture(id: str) -> bytes | None:
    """WebP of a live method's recorded trace, in its own tab."""
    from visualizers import draw
    from visualizers.drawing.thumbnail import thumbnail
    method = offered().get(id)
    trace = None if method is None else recorded.read(id, method.card.tabs[0])
    return None if trace is None else thumbnail(draw(trace))


def answer(request: Request) -> Response:
    found = picture(str(request.path_params["id"])[:60])
    if found is None:
        return Response(status_code=404)
    return Response(found, media_type="image/webp", headers=KEEP)


def routes() -> list[Route]:
    """For FastAPI."""
    return [Route("/thumb/{id}", answer)]
