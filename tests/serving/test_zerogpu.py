"""ZeroGPU, as far as it can be tried off the platform: forked workers, pickles, quota, crashes, cancelling."""

import contextvars
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest

import kernels
from kernels import dispatch, threads
from models.checkpoints import store
from models.engine.method import find, offered
from models.serving import session, turns
from models.serving import zerogpu as zero
from models.serving.session import Ask, Scene, Take, default_beside, play
from models.trace import limits
from models.trace.params import ParamError
from models.trace.subject import from_text
from tests import samples, zerogpu
from tests.zerogpu import Platform, forking
from visualizers.page import nodes

RUNS = [(id, tab) for id, method in offered().items() for tab in method.card.tabs]


@pytest.fixture(scope="module")
def host():
    started = zerogpu.Host()
    yield started
    started.close()


# ---- every method ----------------------------------------------------------------------------------------------------

def beside(id: str, tab: str) -> tuple[str, ...]:
    """The baseline, as the page has it; on a method's first tab only, for time."""
    method = find(id)
    return default_beside(method, tab, method.kind()) if tab == method.card.tabs[0] else ()


def whole(id: str, tab: str) -> dict:
    """A method's default run."""
    asked, Platform.largest = len(Platform.asked), 0
    *_, last = zero.scenes(play, Ask(id, tab, seed=3, beside=beside(id, tab)))
    return {"last": last, "tasks": Platform.asked[asked:], "largest": Platform.largest}


@pytest.mark.parametrize("id, tab", RUNS)
def test_every_default_run_passes_through_a_forked_worker(host, id, tab):
    found = host(whole, id, tab)
    last = found["last"]
    assert last.done and len(last.takes) == 1 + len(beside(id, tab))
    assert last.takes[0].trace.method == id and last.takes[0].trace.tab == tab
    assert not any(zero.SPENT in take.trace.provenance.note or zero.NONE_FREE in take.trace.provenance.note
                   for take in last.takes)
    assert len(found["tasks"]) == 1 and zero.START <= found["tasks"][0] <= limits.GPU_SECONDS
    assert 1_000 < found["largest"] < 10_000_000, "a scene crosses a pipe four times a second"


def both_ways(id: str, tab: str) -> list:
    asked = Ask(id, tab, seed=3)
    return [list(found)[-1].takes[0].trace for found in (zero.scenes(play, asked), play(asked))]


def test_a_worker_finds_what_the_parent_finds(host):
    mine, theirs = host(both_ways, "hpm", "mask")
    assert [s.label for s in mine.steps] == [s.label for s in theirs.steps]
    assert all(np.array_equal(a.state, b.state) for a, b in zip(mine.steps, theirs.steps))


def your_turn() -> Scene:
    ask = Ask("mae", "mask", seed=3)
    *_, own = zero.scenes(play, ask)
    count = turns.groups(session.job(ask))[0]
    *_, last = zero.scenes(turns.take_turn, ask, own.takes[0], [list(range(count))])
    return last


def test_your_turn_is_a_task_too(host):
    assert [take.role for take in host(your_turn).takes] == ["visitor", "method", "random"]


# ---- what crosses ----------------------------------------------------------------------------------------------------

def tensors(ask: Ask):
    import torch
    yield Scene((Take("method", samples.mask(), kept=torch.zeros(3)),), done=True)


def crossing_tensors() -> str:
    try:
        list(zero.scenes(tensors, Ask("mae", "mask")))
    except ParamError as error:
        return f"{type(error).__name__}: {error}"
    return "it went through"


def test_a_tensor_that_would_cross_is_seen(host):
    """Mutant: q and k kept as tensors."""
    assert host(crossing_tensors).startswith("Interrupted: The GPU ended this run")


def where(ask: Ask):
    """Says in a sentence where it runs, and with what."""
    import torch
    told = f"{os.environ['TOKENSCOPE_DEVICE']} {torch.get_num_threads()} {store.default_device()} {os.getpid()}"
    yield Scene((Take("method", replace(samples.mask(), sentence=told)),), done=True)


def places() -> tuple:
    zero.DEVICE = "cuda"
    try:
        *_, last = zero.scenes(where, Ask("mae", "mask"))
    finally:
        zero.DEVICE = "cpu"
    return last.takes[0].trace.sentence.split(), store.default_device(), os.getpid()


def test_only_the_task_has_the_device(host):
    """Mutants: a device chosen at import, or asked of the emulation (the host refuses that)."""
    (said, count, chosen, worker), parents, parent = host(places)
    assert said == chosen == "cuda" and count == "1" and parents == "cpu" and int(worker) != parent


def placed() -> list:
    zero.place(["text-ar-1", "scene-mgm-1"])
    return [key[:2] for key in store._loaded]


def test_trunks_are_put_on_the_device_before_the_page_is_served(host):
    assert {("text-ar-1", "cpu"), ("scene-mgm-1", "cpu")} <= set(host(placed))  # the host's stand-in for cuda


# ---- when there is no GPU --------------------------------------------------------------------------------------------

def without(**state) -> Scene:
    for name, value in state.items():
        setattr(Platform, name, value)
    *_, last = zero.scenes(play, Ask("hpm", "mask", seed=3, beside=("mae",)))
    return last


def lacking(state: dict) -> Scene:
    return without(**state)


@pytest.mark.parametrize("state, sentence", [
    ({"left": 2}, zero.SPENT), ({"free": False}, zero.NONE_FREE), ({"dies": True}, zero.NONE_FREE)])
def test_without_a_task_the_processor_serves_and_the_strip_says_so(host, state, sentence):
    last = host(lacking, state)
    assert last.done and all(take.trace.provenance.note.count(sentence) == 1 for take in last.takes)
    assert sentence in str(nodes.strip(last.takes[0].trace, (), {}))


def test_too_slow_a_run_ends_in_the_recorded_example(tiny, monkeypatch):
    from visualizers.page.tab_handlers import Desk
    said = []
    monkeypatch.setattr(gr, "Warning", said.append)
    monkeypatch.setattr(limits, "SECONDS", 0.0)
    with gr.Blocks():
        desk = Desk("mask", [find("hpm"), find("mae")])
    *_, last = desk.scenes(Ask("hpm", "mask", seed=9))
    seen = last[desk.panel.session]
    assert seen.takes[0].trace.provenance.recorded and "seed=1" in last[desk.panel.query]
    assert "stopped after 0 seconds" in said[0] and "recorded example" in said[0]


# ---- what goes wrong -------------------------------------------------------------------------------------------------

def crashing(ask: Ask):
    yield Scene(())
    os.kill(os.getpid(), 9)


def refusing(ask: Ask):
    yield Scene(())
    raise ParamError("full must be smaller")


def buggy(ask: Ask):
    yield Scene(())
    raise ZeroDivisionError("a visitor's words")


def ending(work) -> tuple[str, str, bool]:
    """How a work ends, and whether the next run works."""
    try:
        list(zero.scenes(work, Ask("mae", "mask")))
        name, said = "", ""
    except Exception as error:
        name, said = type(error).__name__, str(error)
    *_, last = zero.scenes(play, Ask("mae", "mask"))
    return name, said, last.done and not last.takes[0].trace.provenance.note


@pytest.mark.parametrize("work, name, words", [
    (crashing, "Interrupted", "The GPU ended this run before it was done"),
    (refusing, "ParamError", "full must be smaller"), (buggy, "Interrupted", "Something went wrong on our side")])
def test_an_error_in_the_worker_is_one_sentence_and_the_next_run_works(host, work, name, words):
    """Mutant: errors raised in the worker, of which the platform keeps the class alone ("ParamError")."""
    found, said, fine = host(ending, work)
    assert found == name and words in said and "visitor's" not in said and fine


def wrong() -> tuple[str, int]:
    asked = len(Platform.asked)
    try:
        list(zero.scenes(play, Ask("recap", "unmask", {"full": 4000})))
    except ParamError as error:
        return str(error), len(Platform.asked) - asked
    return "", -1


def test_a_wrong_question_costs_no_task(host):
    said, tasks = host(wrong)
    assert "full must be" in said and tasks == 0


def endless(ask: Ask, file: str):
    try:
        for step in range(100_000):
            time.sleep(0.01)
            yield Scene((), step / 100_000)
    finally:
        Path(file).write_text("stopped")


def closing(file: str) -> float:
    scenes = session.pumped(zero.scenes(endless, Ask("mae", "mask"), file))
    next(scenes)
    began = time.perf_counter()
    scenes.close()
    return time.perf_counter() - began


def test_closing_stops_the_worker(host, tmp_path):
    assert host(closing, str(tmp_path / "end")) < 5
    assert (tmp_path / "end").read_text() == "stopped"


# ---- forks -----------------------------------------------------------------------------------------------------------

def locked() -> bool:
    """A task forked while another thread of the parent loads a checkpoint, after the parent used its own threads."""
    threads.pool().submit(int).result(10)
    holds, done = threading.Event(), threading.Event()

    def loading():
        with store._lock:
            holds.set()
            done.wait(30)
    threading.Thread(target=loading, daemon=True).start()
    holds.wait(10)
    try:
        *_, last = zero.on_gpu(play, Ask("maskgit", "unmask"))
    finally:
        done.set()
    return last.done


def test_a_worker_inherits_no_lock_and_no_dead_thread(host):
    assert host(locked)


def stale(keep: bool) -> bool:
    """Whether the kernels' threads work in a forked process; keep: with the pool that the parent left behind."""
    pool, out = threads.pool(), forking.SimpleQueue()

    def use():
        if keep:
            threads._pool = pool
        try:
            out.put(threads.pool().submit(int).result(2) == 0)
        except TimeoutError:
            out.put(False)
        os._exit(0)
    forking.Process(target=use, daemon=True).start()
    return out.get()


def test_the_parents_threads_would_hang_in_a_fork(host):
    """Mutant: the pool is not forgotten."""
    assert host(stale, False) and not host(stale, True)


# ---- kernels' self-tests ---------------------------------------------------------------------------------------------

def trying(ask: Ask):
    """A run that tries a kernel if nobody has, and says how many verdicts it found."""
    before = len(dispatch.VERDICTS)
    dispatch.VERDICTS["attention", "some device", "some type"] = True
    dispatch.note("The kernel was tried here.")
    told = f"{before} {'tried' in ' '.join(kernels.notes())}"
    yield Scene((Take("method", replace(samples.mask(), sentence=told)),), done=True)


def twice() -> list[str]:
    zero.LEARNED.clear()
    return [list(zero.scenes(trying, Ask("mae", "mask")))[-1].takes[0].trace.sentence for _ in range(2)]


def test_a_self_test_is_run_by_the_first_worker_alone(host):
    """Mutant: verdicts that die with the worker."""
    assert host(twice) == ["0 True", "1 True"]


# ---- how long --------------------------------------------------------------------------------------------------------

def test_the_time_asked_for_follows_the_work():
    usual = zero.seconds(play, Ask("recap", "unmask"))
    assert zero.START < usual <= zero.START + 5
    assert usual < zero.seconds(play, Ask("recap", "unmask", {"full": 32}, beside=("maskgit",))) <= limits.GPU_SECONDS
    assert usual <= zero.seconds(play, Ask("recap", "unmask", {"full": 4}))  # never less: a start costs what it costs
    assert zero.seconds(play, Ask("mdm", "unmask", {"steps": 128, "length": 384})) <= limits.GPU_SECONDS
    text = from_text("once upon a time " * 200, "text")
    assert zero.seconds(play, Ask("sampling", "sample", own=text)) > zero.seconds(play, Ask("sampling", "sample"))


# ---- anywhere else ---------------------------------------------------------------------------------------------------

def test_elsewhere_nothing_is_forked_and_no_package_is_wanted(tiny):
    assert not zero.HOSTED and "TOKENSCOPE_DEVICE" not in os.environ
    *_, last = zero.scenes(where_here, Ask("mae", "mask"))
    assert last.takes[0].trace.sentence == str(os.getpid()) and not last.takes[0].trace.provenance.note


def where_here(ask: Ask):
    yield Scene((Take("method", replace(samples.mask(), sentence=str(os.getpid()))),), done=True)


WHO = contextvars.ContextVar("who", default="nobody")


def test_a_run_knows_whose_request_it_is():
    """ZeroGPU counts a visitor's quota by the request in the context. Mutant: a bare thread."""
    def run():
        seen.append(WHO.get())
        yield Scene(())
    WHO.set("a visitor")
    seen = []
    list(session.pumped(run()))
    bare = threading.Thread(target=lambda: seen.append(WHO.get()))
    bare.start()
    bare.join()
    assert seen == ["a visitor", "nobody"]
