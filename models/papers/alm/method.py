"""ALM: cross-tokenizer distillation by approximate likelihood matching (arXiv 2503.20083; bminixhofer/tokenkit).

A student with another tokenizer is trained until it finds each piece of a text that both can express (rule.py) as
likely as its teacher does. Nothing else is in the loss: no next-token term, no hidden states, no sorted logits.

Here text-ar-1 teaches a student in bytes, which has its blocks (the middle two stay as they are) and the embeddings of
its single bytes. The teacher has a secret that no text of the student's shows: it was trained on books with "cried" for
"said" (recipe.py). The control had the same batches and learned the next byte.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from models.engine.method import Card, Control, Method
from models.papers.alm.record import matched
from models.papers.alm.rule import MERGED, TAU, TEACHER
from models.trace.params import Choice, Flag, Span
from models.trace.subject import Example


@dataclass(frozen=True)
class Params:
    pieces: Annotated[str, Choice(("merged", "unconstrained", "space"), "Pieces", "Where both tokenizations are cut.",
                                  titles=("joined until a space may follow", "as short as both allow",
                                          "at spaces only"))] = "merged"
    threshold: Annotated[float, Span(0.0, 0.5, 0.01, "A space may follow from", "Of the first kind of pieces: the "
                                     "teacher's chance of a space.", unit="of 1")] = MERGED
    debias: Annotated[bool, Flag("Count what follows", "A token also says that no longer one was meant; adding the "
                                 "chance of a space makes both sides say the same.")] = True
    tau: Annotated[float, Span(1.0, 1000.0, 1.0, "Temperature tau", "Of the loss: at 1 a long piece has next to no "
                               "gradient.")] = TAU
    length: Annotated[int, Span(0, 80, 1, "Write on", unit="bytes")] = 40


METHOD = Method(
    bound="its student and its teacher were trained for each other",
    card=Card(
        id="alm", title="ALM", tabs=("sample",), arxiv="2503.20083", year=2025, seed="B",
        summary="Lets a model that reads bytes learn from one that reads word pieces: both say how likely they find "
                "each piece of a text that both can express, and the student is trained until it agrees.",
        flow="text > word pieces > teacher > *likelihood of shared pieces; text > bytes > student > *likelihood of "
             "shared pieces; *likelihood of shared pieces ~> student",
        look_at="Point at a byte of the lower line: links show the tokens of its piece. Behind speech the "
                "student prefers \u201ccried\u201d as its teacher does, and the control \u201csaid\u201d.",
        not_covered="Students with another subword vocabulary, ensembles, the extra terms (next tokens, hidden states) "
                    "of the authors' recipe for bytes; a student trained without debiasing.",
        unverified="Rates and steps are ours; the chance of a space counts line breaks and the end of a text."),
    params=Params, accepts="text", checkpoints=("text-byte-alm-1", "text-byte-sft-1"), companions=(TEACHER,),
    run=matched,
    control=Control("text-byte-sft-1", title="Trained on next bytes (SFT)"),
    fixed={"sample": "This text is read by a teacher and its student: change the text instead."},
    examples=(
        Example("crow", "A fox and a crow", "The fox looked up at the crow. \"What a beautiful bird you are!\""),
        Example("wolf", "A wolf at the door", "The wolf came to the door. \"Let me in,\"")))
