"""The same runs on more than one machine: one page, and replicas of the models behind it, on Ray Serve.

    make serve-ray N=2      TOKENSCOPE_REPLICAS=2 python app.py, with Ray on this machine or the cluster at RAY_ADDRESS

The page keeps the sessions and asks a replica for every run; a replica has the whole of `models`, does one run
at a time and remembers nothing of it. A run is fixed by its question, so when a replica is lost another one begins it
again and the visitor sees no more than a step back. Only public parts of Ray; docs/replicas.md says how to use them on
a cluster.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import kernels
from models.checkpoints import store
from models.serving.errors import Interrupted, spoken
from models.serving.session import Scene

NAME = "tokenscope"
TRIES = 3  # replicas that one run may lose
LOST = "The machine that computed this was lost, and so were those asked in its place; please press Run again."
log = logging.getLogger(NAME)
_handle = None  # of the deployment, in the process of the page
retries = 0  # runs begun again since the start, for tests and logs


# ---- a replica -------------------------------------------------------------------------------------------------------

class Replica:
    """One process with models in memory. names: checkpoints to load before the first run."""

    def __init__(self, names: tuple[str, ...] = (), threads: int = 0):
        if threads:
            import torch
            torch.set_num_threads(threads)
        for name in names:
            store.preload(name)
        kernels.compile_kernels()

    def scenes(self, work: Callable[..., Iterator[Scene]], *arguments: Any) -> Iterator[Scene | Exception]:
        """What `work` yields; an error is the last word instead, because Ray would add its own text to it."""
        yield from spoken(work, *arguments)

    def process(self) -> int:
        """Which process this is: for tests, which end one."""
        return os.getpid()


# ---- the page --------------------------------------------------------------------------------------------------------

def deploy(count: int, names: tuple[str, ...] = (), cores: float | None = None) -> None:
    """Starts `count` replicas and waits until they serve. cores: that each reserves; an even share of what is there.

    Joins the cluster at RAY_ADDRESS, or starts Ray on this machine alone, reachable from nowhere else.
    """
    global _handle
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray import serve

    address = os.environ.get("RAY_ADDRESS")
    ray.init(address=address, namespace=NAME, log_to_driver=False, ignore_reinit_error=True,
             **({} if address else {"include_dashboard": False}))
    serve.start(proxy_location="Disabled")  # no port of its own: the page asks by handle
    share = cores or ray.cluster_resources().get("CPU", 1) / (count + 1)  # Serve's own processes need one too
    made = serve.deployment(
        Replica, name=NAME, num_replicas=count, max_ongoing_requests=1,
        ray_actor_options={"num_cpus": share, "num_gpus": _cards(ray, count)})
    _handle = serve.run(made.bind(names, max(1, int(share))), name=NAME, route_prefix=None)


def _cards(ray, count: int) -> float:
    """An even share of the cluster's graphics cards."""
    return min(1.0, ray.cluster_resources().get("GPU", 0) / count)


def deployed() -> bool:
    """Whether this process has replicas to ask."""
    return _handle is not None


def scenes(work: Callable[..., Iterator[Scene]], *arguments: Any) -> Iterator[Scene]:
    """What `work(*arguments)` yields, from a replica; from the start again on another one when that is lost.

    work: a function of a module. Raises what work raises, and Interrupted. Closing this iterator ends the run.
    """
    global retries
    from ray.exceptions import RayActorError

    for left in reversed(range(TRIES)):
        words = _handle.options(stream=True).scenes.remote(work, *arguments)
        try:
            yield from _heard(words)
            return
        except RayActorError as error:
            log.warning("a replica was lost (%s)", type(error).__name__)
            retries += 1
            if not left:
                raise Interrupted(LOST) from None
        finally:
            words.cancel()


def _heard(words: Iterator[Scene | Exception]) -> Iterator[Scene]:
    for word in words:
        if isinstance(word, Exception):
            raise word
        yield word


def shut() -> None:
    """Ends the replicas, and Ray where it was started here."""
    global _handle
    import ray
    from ray import serve

    _handle = None
    serve.shutdown()
    ray.shutdown()
