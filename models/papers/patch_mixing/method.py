"""Patch Mixing: paste patches of other photos into training photos, labels mixed alike; a CNN learns to ignore them.

Lee et al., Hardwiring ViT Patch Selectivity into CNNs using Patch Mixing (arXiv 2306.17848), read with its project
page; there is no training code. The rule is in mixing.py, the attacks in exam.py, c-RISE in lens.py, what is shown in
record.py.
"""
from dataclasses import dataclass
from typing import Annotated

from models.baselines.mae.method import EXAMPLES
from models.engine.method import Card, Control, Job, Method
from models.papers.patch_mixing import record
from models.trace.params import Choice, Span


@dataclass(frozen=True)
class Params:
    other: Annotated[str, Choice(tuple(record.OTHERS), "Second photo", "Whose patches creep into the "
                                  "first. Never the first itself: a cup of coffee or a cat then.")] = \
        EXAMPLES[3].title
    attack: Annotated[str, Choice(("foreign", "shifted", "black", "shuffled"), "Attack", "What happens to the chosen "
                                  "patches. The shifted grid was not trained.",
                                  titles=("patches of the second photo", "the same on a grid half a patch beside",
                                          "black patches", "patches change places"))] = "foreign"
    share: Annotated[float, Span(0.1, 0.8, 0.1, "Attacked share", "Where the networks are compared; Attend takes it "
                                 "apart.", unit="of patches")] = 0.4
    masks: Annotated[int, Span(50, 1000, 50, "Masks", "Through how many random masks Attend looks. More: less noise.",
                               fold=True)] = 150


def run(job: Job):
    found = record.contest(job)
    yield from record.creeping(found)
    yield from record.attributed(job, found)


METHOD = Method(
    card=Card(
        id="patch-mixing", title="Patch Mixing", tabs=("mask", "attend"), arxiv="2306.17848", year=2023, seed="A",
        summary="Random patches of another photo are pasted into each training photo and the labels mixed by area: a "
                "convnet learns to ignore patches that do not belong, as vision transformers can from the start.",
        flow="two photos > *patches of one pasted on the other > classifier > probabilities > error; two photos > "
             "*labels mixed by area > error",
        look_at="Mask: at which share does each of the four stop seeing this photo's class? There is no rocket among "
                "the 50 classes: all four take it for a lighthouse. The pair was picked for its "
                "contrast. Attend: how much of what decides lies on foreign patches, and how much do these move what "
                "the network makes of the others?",
        not_covered="ConvNeXt and Swin at 224 pixels for 300 epochs: here a residual convnet without normalised "
                    "ConvNeXt blocks, at 64 pixels, and a plain vision transformer; all arms go on for 300 steps from "
                    "a classifier of their family that was trained plainly. Photographed occluders (drawn shapes in "
                    "the claim), mixing with other augmentations, three seeds. CutMix was trained and measured; its "
                    "weights are not shipped. c-RISE without the mean answer, its share on foreign patches and the "
                    "± of it are ours, as are the two classes: the likeliest in each whole photo, all four asked "
                    "together. Selectivity is shown, and not judged by the claim.",
        unverified="How often it is applied and how much is pasted: here to every second photo, 5 to 60 % of it. Label "
                   "smoothing 0.1. The exact normalisation of c-RISE."),
    params=Params, accepts="photo", checkpoints=(record.MIXING, record.PLAIN),
    companions=tuple(record.TITLES), run=run,
    examples=(EXAMPLES[2], *EXAMPLES[:2], *EXAMPLES[3:]), control=Control(record.PLAIN, title="Plain CNN"),
    bound="its four networks were trained together",
    fixed={"mask": "Which patches are attacked is drawn by the seed; change how many, or the attack.",
           "attend": "Two of the networks have no attention heads; change the attack instead."})
