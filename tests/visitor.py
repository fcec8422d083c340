"""A visitor without a browser: presses the page's own buttons over HTTP, as the page's script does.

gradio_client cannot call what is private to the page; load, soak and privacy need exactly that: the run with its
session, its place in the queue, and the end of the connection when the tab closes.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
from gradio_client.utils import apply_diff

SAME = {"__type__": "update"}
SKIPS = (SAME, {**SAME, "props": SAME})  # an output that a message leaves as it was


@dataclass
class Answer:
    """What a press led to. places: (place, waiting) as told while it waited; outputs: the last value of each output
    component by id; warnings: sentences shown; error: the message of a failure, else None; status: of the HTTP call."""

    outputs: dict[int, object] = field(default_factory=dict)
    places: list[tuple[int, int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None
    status: int = 200


class Visitor:
    """One open tab. `stay()` holds the connection that a browser holds; `leave()` closes the tab.

    config: the page's own description, where another visitor has already fetched it.
    """

    def __init__(self, url: str, timeout: float = 120, config: dict | None = None):
        self.session, self.url = secrets.token_hex(8), url
        self.http = httpx.Client(base_url=url, timeout=timeout, trust_env=False)
        self.config = config = config or self.http.get("/config").json()
        self.components = {c["id"]: c for c in config["components"]}
        self.named = {c["props"].get("elem_id"): c["id"] for c in config["components"] if c["props"].get("elem_id")}
        self.listeners = {tuple(target): dep for dep in config["dependencies"] for target in dep["targets"]
                          if dep["backend_fn"]}  # what the browser does by itself is no visitor's question
        self.values: dict[int, object] = {}  # what was typed or answered since the page opened
        self.stream, self.waiting = None, []

    def set(self, name: str, value: object) -> None:
        self.values[self.named[name]] = value

    def value(self, name: str) -> object:
        return self._value(self.named[name])

    def _value(self, id: int) -> object:
        return self.values.get(id, self.components[id]["props"].get("value"))

    def stay(self) -> None:
        """Holds the page's connection open in a thread."""
        ready = threading.Event()

        def hold():
            with httpx.Client(base_url=self.url, timeout=None, trust_env=False) as http:
                with http.stream("GET", f"/gradio_api/heartbeat/{self.session}") as self.stream:
                    try:
                        for _ in self.stream.iter_raw():
                            ready.set()
                    except httpx.HTTPError:
                        pass  # closed by leave()
        threading.Thread(target=hold, daemon=True).start()
        assert ready.wait(30), "the page's connection did not open"

    def cancel(self) -> None:
        """Breaks off what this visitor waits for: the stream of answers ends, as when a tab is closed."""
        for stream in list(self.waiting):
            stream.extensions["network_stream"].close()

    def leave(self) -> None:
        if self.stream is not None:
            self.stream.extensions["network_stream"].close()
        self.http.close()

    def settings(self, name: str) -> int:
        """Id of the hidden component with which the browser tells the controls' values to this button."""
        inputs = self.listeners[self.named[name], "click"]["inputs"]
        return next(id for id in inputs if self.components[id]["type"] == "json")

    def press(self, name: str, event: str = "click", data: object = None, inputs: dict | None = None) -> Answer:
        """Fires an event of the component with this elem_id and waits for its end. inputs: values by component id."""
        listener, answer = self.listeners[self.named[name], event], Answer()
        sent = [(inputs or {}).get(id, self._value(id)) for id in listener["inputs"]]
        body = {"data": sent, "fn_index": listener["id"], "session_hash": self.session,
                "trigger_id": self.named[name], "event_data": data}
        joined = self.http.post("/gradio_api/queue/join", json=body)
        answer.status = joined.status_code
        if joined.status_code != 200:
            answer.error = joined.json().get("detail", "")
            return answer
        seen: list = []  # the outputs so far; later messages tell only what changed in them
        for message in self._messages():
            seen = _take(answer, message, listener["outputs"], seen)
            if message["msg"] == "process_completed":
                break
        self.values |= {id: value for id, value in answer.outputs.items() if not _is_update(value)}
        return answer

    def _messages(self) -> Iterator[dict]:
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            self.waiting.append(stream)
            try:
                for line in stream.iter_lines():
                    if line.startswith("data:"):
                        yield json.loads(line[5:])
            except httpx.HTTPError:
                return  # broken off by cancel()
            finally:
                self.waiting.remove(stream)


def _take(answer: Answer, message: dict, outputs: list[int], seen: list) -> list:
    """Notes what a message says; returns the outputs as they stand now."""
    if message["msg"] == "estimation":
        answer.places.append((message["rank"] + 1, message["queue_size"]))
    elif message["msg"] == "log":
        answer.warnings.append(message["log"])
    elif message["msg"] in ("process_generating", "process_completed"):
        found = message["output"]
        if not message["success"]:
            answer.error = str(found.get("error"))
            return seen
        data = found.get("data") or []
        changed = message["msg"] == "process_generating" and seen
        seen = [apply_diff(old, new) for old, new in zip(seen, data)] if changed else data
        answer.outputs |= {id: value for id, value in zip(outputs, seen) if value not in SKIPS}
    return seen


def _is_update(value: object) -> bool:
    return isinstance(value, dict) and value.get("__type__") == "update"
