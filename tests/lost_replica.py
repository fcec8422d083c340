"""A process of its own for tests/serving/test_replicas.py: two replicas, one of them lost under load; prints what
happened."""

import json
import os
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from models.serving import replicas, session, zerogpu
from models.serving.session import Ask
from models.trace.params import ParamError

ASKS = [Ask("maskgit", "unmask", {"steps": 96}, seed=seed) for seed in range(5)]  # long enough to be lost in its midst


def ids(scene) -> list[int]:
    """What was painted at last."""
    return scene.takes[0].trace.steps[-1].ids.tolist()


def processes() -> set[int]:
    """The replicas' process numbers; they are asked in turn, so a few questions find both."""
    return {replicas._handle.process.remote().result() for _ in range(20)}


def under_load() -> list:
    """The answers to all questions at once, with one replica killed while both are in the midst of a run."""
    answers, both_busy, victim = [None] * len(ASKS), threading.Barrier(3, timeout=120), sorted(processes())[0]

    def visitor(number: int) -> None:
        scenes = zerogpu.scenes(session.play, ASKS[number])
        next(scenes)
        if number < 2:
            both_busy.wait()
        *_, last = scenes
        answers[number] = ids(last)

    first = [threading.Thread(target=visitor, args=(number,)) for number in (0, 1)]
    for thread in first:
        thread.start()
    both_busy.wait()
    rest = [threading.Thread(target=visitor, args=(number,)) for number in range(2, len(ASKS))]
    for thread in rest:
        thread.start()
    os.kill(victim, signal.SIGKILL)
    for thread in (*first, *rest):
        thread.join()
    return answers


def refused() -> str:
    try:
        list(zerogpu.scenes(session.play, Ask("mae", "mask", {"mask_ratio": 7})))
    except ParamError as error:
        return str(error)


def closed() -> bool:
    """Two runs that nobody wants any more leave room for the next one."""
    for _ in range(2):
        scenes = zerogpu.scenes(session.play, ASKS[0])
        next(scenes)
        scenes.close()
    *_, last = zerogpu.scenes(session.play, Ask("mae", "mask"))
    return last.done


def main() -> None:
    alone = [ids(list(session.play(ask))[-1]) for ask in ASKS]
    replicas.deploy(2, ("scene-mgm-1", "scene-vq-1"))  # loaded, so that both are busy at the same time
    found = {"replicas": len(processes()), "same": under_load() == alone, "retries": replicas.retries,
             "refused": refused(), "closed": closed()}
    replicas.shut()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
