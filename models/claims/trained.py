"""Who was trained for longer, read from the cards: a sentence that nobody writes by hand."""

from __future__ import annotations

from collections.abc import Sequence

from models.checkpoints import store

FACTS = {"steps": "steps", "examples_seen": "examples", "minutes": "minutes"}
ALIKE = 1.1  # less than this apart reads "as long as"


def trainings(names: Sequence[str]) -> list[dict]:
    """{"checkpoint", "steps", "examples_seen", "minutes"} of every shipped checkpoint among these, each once."""
    cards = store.shipped()
    return [{"checkpoint": name} | {key: cards[name][key] for key in FACTS if key in cards[name]}
            for name in dict.fromkeys(names) if name in cards]


def longer(names: Sequence[str]) -> str:
    """What each was trained for and who was trained for longest; "" for fewer than two."""
    found = trainings(names)
    if len(found) < 2:
        return ""
    each = "; ".join(f"{one['checkpoint']} " + ", ".join(f"{one[key]:,} {unit}" for key, unit in FACTS.items()
                                                         if key in one) for one in found)
    return f"{each}. {compared(found)}"


def compared(found: Sequence[dict]) -> str:
    """The longest against the shortest, by examples and by minutes."""
    told = []
    for key, unit in (("examples_seen", "examples"), ("minutes", "minutes")):
        known = sorted((one for one in found if one.get(key)), key=lambda one: one[key])
        if len(known) < 2:
            continue
        first, last = known[0], known[-1]
        times = last[key] / first[key]
        told.append(f"about equal by {unit}" if times < ALIKE else
                    f"{last['checkpoint']} saw {times:.1f} times the {unit} of {first['checkpoint']}")
    return ("; ".join(told) + ".").capitalize() if told and told[0].startswith("about") else "; ".join(told) + "."
