"""Documents with a fact to find again: the tasks of meap (arXiv 2502.07490) and lazyllm (arXiv 2407.14057).

Three kinds, all ending in "Question: ... Answer:" and answered by one word or number:
  notes     a list of key: value lines, one of them asked for
  needle    one sentence with a secret number somewhere in ordinary text
  passages  several short passages, one holds the answer, the others answer the same question about others
Names are combined from two lists; the pairs used for testing never occur in training (`split`).
"""
import re
from dataclasses import dataclass

import numpy as np

KINDS = ("notes", "needle", "passages")
ADJECTIVES = ("blue", "red", "green", "old", "little", "brave", "gray", "white", "golden", "silver", "lazy", "merry",
              "proud", "quiet", "black", "brown")
ANIMALS = ("otter", "fox", "owl", "bear", "hare", "goose", "mouse", "wolf", "frog", "lion", "cat", "duck", "horse",
           "sheep", "robin", "crow")
PLACES = ("garden", "forest", "kitchen", "castle", "village", "meadow", "island", "stable", "tower", "market",
          "church", "river")
THINGS = ("ring", "lamp", "book", "key", "crown", "basket", "drum", "mirror", "kite", "clock", "spoon", "hat")
PASSAGES = (
    "The {name} woke early and walked to the {place}. There it found a {thing} and took it home.",
    "In the evening the {name} went to the {place}. Under a stone lay a {thing}, and it was glad.",
    "One day the {name} was sent to the {place}. It came back with a {thing} and told nobody.",
)

QUESTION = re.compile(r"Question: (?:What is the number of the (?P<note>[\w ]+)|What is the secret number of the "
                      r"(?P<needle>[\w ]+)|What did the (?P<passage>[\w ]+) find)\? Answer:[^?\n]*$")


@dataclass(frozen=True)
class Task:
    """prompt ends in "Answer:"; answer is the text that should follow (with its leading space).

    Spans are (first, last + 1) character offsets into the prompt: `gold` is the sentence or line with the answer,
    `question` the question; `units` are all lines, sentences of filler or passages in order.
    """

    kind: str
    prompt: str
    answer: str
    gold: tuple[int, int]
    question: tuple[int, int]
    units: tuple[tuple[int, int], ...]


def task(rng: np.random.Generator, kind: str, n_chars: int = 1500, filler: list[str] | None = None,
         split: str = "train", depth: float | None = None) -> Task:
    """A prompt of at most n_chars characters (about 3.6 characters per token of the shared vocabulary).

    filler: sentences of ordinary text, needed for "needle". depth: 0-1, where the gold unit stands (random if None).
    """
    if kind not in KINDS:
        raise ValueError(f'no task "{kind}": choose one of {", ".join(KINDS)}')
    depth = float(rng.random()) if depth is None else depth
    made = {"notes": _notes, "needle": _needle, "passages": _passages}[kind]
    units, gold, question, answer = made(rng, n_chars, filler, split, depth)
    return _assemble(kind, units, gold, question, answer)


def name(rng: np.random.Generator, split: str = "train") -> str:
    """A creature such as "blue otter"; one pair in five is kept for split="test"."""
    while True:
        a, b = int(rng.integers(len(ADJECTIVES))), int(rng.integers(len(ANIMALS)))
        if ((3 * a + b) % 5 == 0) == (split == "test"):
            return f"{ADJECTIVES[a]} {ANIMALS[b]}"


def exact(task: Task, continuation: str) -> bool:
    """Whether a continuation of the prompt begins with the answer and stops there."""
    said = continuation.strip().split("\n")[0].rstrip(".").split()
    return said[:1] == [task.answer.strip().rstrip(".")]


def truth(prompt: str) -> tuple[str, tuple[int, int]] | None:
    """What the question at the end of a prompt asks for, its answer begun or not, and the (first, last + 1) characters
    of the line or sentence that says so; None when the prompt is not one of these tasks or does not hold the answer."""
    asked = QUESTION.search(prompt)
    if asked is None:
        return None
    creature = re.escape(asked["note"] or asked["needle"] or asked["passage"])
    form = (rf"^{creature}: (\d+)" if asked["note"] else rf"The secret number of the {creature} is (\d+)\."
            if asked["needle"] else rf"^.*\bthe {creature}\b.*(?:found|lay|with) a (\w+).*$")
    found = re.search(form, prompt[: asked.start()], re.IGNORECASE | re.MULTILINE)
    return (found[1], found.span()) if found else None


def others(task: Task, rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Up to `count` more (question, answer) pairs about the same document; a needle document has one fact only."""
    form = {"notes": r"^(?P<name>\w+ \w+): (?P<answer>\d+)$",
            "passages": r"^.*?\bthe (?P<name>\w+ \w+) (?:woke|went|was)\b.*\b(?:found|lay|with) a (?P<answer>\w+)"}
    if task.kind not in form:
        return []
    ask = {"notes": "What is the number of the {}?", "passages": "What did the {} find?"}[task.kind]
    lines = [task.prompt[a:b] for a, b in task.units if (a, b) != task.gold]
    picked = rng.permutation(len(lines))[:count]
    found = [re.search(form[task.kind], lines[i], re.IGNORECASE) for i in picked]
    return [(ask.format(f["name"]), f" {f['answer']}.") for f in found if f]


def _names(rng, count: int, split: str) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        new = name(rng, split)
        if new not in found:
            found.append(new)
    return found


def _number(rng) -> str:
    return str(int(rng.integers(1000, 10000)))


def _notes(rng, n_chars, filler, split, depth):
    count = int(np.clip((n_chars - 90) // 18, 2, 48))
    names = _names(rng, count, split)
    numbers = [_number(rng) for _ in names]
    at = min(int(depth * count), count - 1)
    units = [f"{n}: {v}\n" for n, v in zip(names, numbers, strict=True)]
    return units, at, f"What is the number of the {names[at]}?", numbers[at]


def _needle(rng, n_chars, filler, split, depth):
    if not filler:
        raise ValueError('the "needle" task hides a fact in ordinary text: pass sentences as filler')
    creature, number = name(rng, split), _number(rng)
    fact = f"The secret number of the {creature} is {number}. "
    room, units, start = n_chars - len(fact) - 90, [], int(rng.integers(len(filler)))
    for i in range(len(filler)):
        sentence = filler[(start + i) % len(filler)].strip() + " "
        if len(sentence) > room:
            break
        units.append(sentence)
        room -= len(sentence)
    at = min(int(depth * (len(units) + 1)), len(units))
    units.insert(at, fact)
    return units, at, f"What is the secret number of the {creature}?", number


def _passages(rng, n_chars, filler, split, depth):
    count = int(np.clip((n_chars - 90) // 105, 2, 40))
    names, units, things = _names(rng, count, split), [], []
    for n in names:
        things.append(THINGS[int(rng.integers(len(THINGS)))])
        form = PASSAGES[int(rng.integers(len(PASSAGES)))]
        units.append(form.format(name=n, place=PLACES[int(rng.integers(len(PLACES)))], thing=things[-1]) + "\n")
    at = min(int(depth * count), count - 1)
    return units, at, f"What did the {names[at]} find?", things[at]


def _assemble(kind, units, gold, question, answer) -> Task:
    spans, text = [], ""
    for unit in units:
        spans.append((len(text), len(text) + len(unit.rstrip())))
        text += unit
    text = text.rstrip() + "\n\nQuestion: "
    asked = (len(text), len(text) + len(question))
    return Task(kind, text + question + " Answer:", f" {answer}.", spans[gold], asked, tuple(spans))
