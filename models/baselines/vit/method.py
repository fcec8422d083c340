"""Vision transformer: every patch looks at every patch, and a class token in front collects the answer.

Dosovitskiy et al., An Image is Worth 16x16 Words (arXiv 2010.11929), at teaching scale: the control of classifiers that
change its attention, its norms, its MLP or the place of its class token. Not covered: other image sizes.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from models.backbones.pictures import cut
from models.baselines.mae.method import EXAMPLES as PHOTOS
from models.engine.method import Card, Job, Method
from models.loops.attend.classifiers import ClassifierArm, look, record
from models.trace.params import Span
from models.trace.percent import percent

CHECKPOINT = "photo-vit-1"
CURVES = {"ViT": CHECKPOINT}
EXAMPLES = (PHOTOS[2], *PHOTOS[:2], *PHOTOS[3:])  # the rocket first: one thing before a plain sky


@dataclass(frozen=True)
class Params:
    layer: Annotated[int, Span(1, 12, 1, "Map of layer", "Whose whole attention map is drawn.", fold=True)] = 6


def arm_of(model) -> ClassifierArm:
    """transformers' ViTForImageClassification: the class token at place 0, the patches behind it."""
    patches = model.vit.embeddings.patch_embeddings.num_patches
    labels = tuple(model.config.id2label[kind] for kind in range(model.config.num_labels))

    def states(pixels):
        return model.vit(pixels, output_hidden_states=True).hidden_states[1:]

    return ClassifierArm(model.vit, states, lambda hidden: model.classifier(model.vit.layernorm(hidden[:, 0])), labels,
                         0,
                         1 + np.arange(patches))


def run(job: Job):
    """One pass, looked at."""
    arm = arm_of(job.model)
    shown, pixels = cut(job.subject.image, job.model)
    seen = look(arm, pixels)
    kind, share = seen.best()
    sentence = (f"Of its {len(arm.labels)} classes it says {arm.labels[kind]} ({percent(share)}); every token sees all "
                "others, so no weight is deleted.")
    yield from record(arm, shown, seen, sentence=sentence, layer=job.params.layer, curves=CURVES)


METHOD = Method(
    card=Card(
        id="vit", title="Vision transformer", tabs=("attend",), arxiv="2010.11929", year=2020, seed=None,
        summary="A photo becomes 64 patches; every patch looks at every other, and a class token in front of them "
                "collects what the photo shows.",
        flow="photo > patches and class token > layers of attention > class token > class",
        look_at="The class token's attention over the picture, layer by layer, and where its answer first appears.",
        not_covered="Large pictures and large training: it saw each of 24,584 small photos a few times."),
    params=Params, accepts="photo", checkpoints=(CHECKPOINT,), run=run, examples=EXAMPLES)
