"""ZeroGPU with the platform's own package against a make-believe device API: what can be tried without its GPUs.

    pip install --no-deps --target /tmp/spaces spaces==0.51.3
    PYTHONPATH=/tmp/spaces:. python -m tests.real_spaces

Puts every shipped checkpoint on the emulated device, then runs a method without quota and with a worker that finds no
GPU; both must end on the processor with their sentence, else the exit code is 1. Not part of the tests: it needs the
package, and gives a torch without CUDA the names that the package patches.
"""

import json
import os
import sys
import tempfile
import time

import torch

from tests.loopback import Answers, answering


class DeviceApi(Answers):
    """Answers as the platform's scheduler: no quota, or a worker's permission."""

    quota = False
    asked: list[str] = []

    def do_POST(self):  # noqa: N802  the name that http.server calls
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append(self.path)
        if self.path.startswith("/schedule") and not self.quota:
            return self.say(429, {"left": 3, "wait": "PT1H"})
        return self.say(200, {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "token"})

    def say(self, code: int, answer: dict) -> None:
        self.answer(json.dumps(answer).encode(), code)


def never(*args) -> bool:
    return False


def pretend(api: str) -> None:
    """What the package expects around it: its environment, and names that a build without CUDA lacks."""
    os.environ |= {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": api,
                   "ZEROGPU_OFFLOAD_DIR": tempfile.mkdtemp(), "TOKENIZERS_PARALLELISM": "false"}
    if torch.version.cuda is None:
        torch.version.cuda, torch._C._cuda_init, torch.cuda._is_in_bad_fork = "12.8", never, never


def placed() -> float:
    """Seconds of processor time to put every shipped checkpoint on the emulated device."""
    from models.checkpoints import store
    from models.serving import zerogpu
    assert zerogpu.HOSTED and torch.cuda.is_available() and store.default_device() == "cpu"
    began, names = time.process_time(), list(store.shipped())
    zerogpu.place(names)
    for name in names:
        weights = next(store.load(name, device=zerogpu.DEVICE).model.parameters())
        assert weights.device.type == "cuda", name
    return time.process_time() - began


def answered() -> str:
    """The note of a run."""
    from models.serving import session, zerogpu
    *_, last = session.pumped(zerogpu.scenes(session.play, session.Ask("mae", "mask", seed=3)))
    assert last.done and last.takes[0].trace.provenance.device == "cpu"
    return last.takes[0].trace.provenance.note


def main() -> int:
    with answering(DeviceApi) as api:
        pretend(api)
        from models.serving import zerogpu
        print(f"placed on the emulated device: {placed():.0f} s of processor time")
        without = answered()
        DeviceApi.quota = True
        broken = answered()
    print(f"without quota: {without}\nwith a worker that finds no GPU: {broken}")
    print("the device API was asked for", *(path.split("?")[0] for path in DeviceApi.asked))
    return int(without != zerogpu.SPENT or broken != zerogpu.NONE_FREE)


if __name__ == "__main__":
    sys.exit(main())
