"""Worded chain arithmetic with checkable answers, for decoding methods (source: the task in cntp, arXiv 2507.03038).

    start 6, plus 7, times 3, minus 5. | 6 plus 7 is 13, 13 times 3 is 39, 39 minus 5 is 34. answer 34.

Numbers stay in 0..99 and are one word each, so every sum has to be learned and can go wrong. Every clause ends in
punctuation, which is where a rollout stops.
"""
import re

import numpy as np

from models.worlds.world import Doc, World, exam

LIMIT = 99
VERBS = ("plus", "minus", "times")
WORDS = ("start", *VERBS, "is", "answer", ",", ".", *map(str, range(LIMIT + 1)))  # one token each


def problem(rng: np.random.Generator, steps: int | None = None) -> tuple[str, str, int]:
    """(prompt, solution, answer) of a chain of `steps` operations (3-5 by default).

    prompt + " " + solution is one text; the solution begins after the prompt's full stop.
    """
    steps = steps or int(rng.integers(3, 6))
    value = start = int(rng.integers(2, 21))
    asked, worked = [f"start {start}"], []
    for _ in range(steps):
        verb, number = _operation(rng, value)
        result = apply(value, verb, number)
        asked.append(f"{verb} {number}")
        worked.append(f"{value} {verb} {number} is {result}")
        value = result
    return ", ".join(asked) + ".", ", ".join(worked) + f". answer {value}.", value


def apply(value: int, verb: str, number: int) -> int:
    """One operation; raises ValueError for an unknown verb."""
    if verb not in VERBS:
        raise ValueError(f'"{verb}" is no operation here: use plus, minus or times')
    return {"plus": value + number, "minus": value - number, "times": value * number}[verb]


def check(text: str) -> bool:
    """Whether the first "answer" of a text (prompt and solution) is the true result of its prompt.

    Spaces before punctuation, as a word-level tokenizer writes them, do not matter.
    """
    given = re.search(r"answer (\d+)", text)
    return given is not None and int(given[1]) == truth(text)


def truth(text: str) -> int:
    """The result the prompt of a text asks for; raises ValueError when there is no well-formed prompt."""
    prompt = text.split(".")[0]
    start = re.match(r"\s*start (\d+)", prompt)
    if not start:
        raise ValueError('a problem begins like "start 12, plus 7, times 3."')
    value = int(start[1])
    for verb, number in re.findall(r"(plus|minus|times) (\d+)", prompt):
        value = apply(value, verb, int(number))
    return value


def _operation(rng, value: int) -> tuple[str, int]:
    """A verb and a number that keep the value in 0..LIMIT."""
    while True:
        verb = VERBS[int(rng.integers(3))]
        number = int(rng.integers(2, 10)) if verb == "times" else int(rng.integers(1, 51))
        if 0 <= apply(value, verb, number) <= LIMIT:
            return verb, number


def sample(rng: np.random.Generator) -> Doc:
    """A problem and its solution."""
    prompt, solution, value = problem(rng)
    return Doc((prompt, solution), (False, True), value)


WORLD = World(WORDS, sample, check)


def held_out(count: int) -> list[str]:
    """Prompts that training never shows."""
    return [doc.prompt for doc in exam(WORLD, 5, count)]
