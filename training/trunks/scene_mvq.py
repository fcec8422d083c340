"""scene-mvq-1: scenes as pyramids of token maps, coarse to fine, over one codebook (as in VAR, arXiv 2404.02905)."""
import numpy as np
import torch
from torch.nn import functional as F

from models.backbones.pictures import from_uint8, to_uint8
from models.worlds import scenes
from training.export import figure
from training.painted import judged
from training.trainer import Recipe, rng_of
from training.trunks.scene_vq import distinct_patches

SPREAD = 1.5  # size of the overview's channels beside a patch's
SHARES = (0.15, 0.15, 0.3, 0.1, 0.3)  # of the entries that are no layout's: for scales 2 to 6, at first


def drawn(rng, count: int) -> tuple[list, torch.Tensor]:
    """Scenes and their pictures [B, 3, 64, 64] in 0..1."""
    things = scenes.several(count, rng)
    return things, from_uint8(scenes.pictures(things))


class SceneMVQ(Recipe):
    name = "scene-mvq-1"
    minutes, lr, lr_adam, decay = 4.0, 0.0, 1e-3, 0.8
    autocast = compile = False
    size, patience = 32, 100  # pictures per batch; steps without use after which an entry starts again
    architecture = ("ScaleTokenizer: linear patch encoder, MLP decoder, an overview of 512 layouts, residual maps of "
                    "1, 2, 3, 4, 6 and 8 cells a side (130 tokens) over one codebook of 1,536")
    trained_on = "procedurally drawn scenes (models/worlds/scenes.py)"
    data_licence = "none: made by program"
    weak_at = "Knows only the patches and layouts of this world."
    budget_fraction = "1 (trained until the parser reads its pictures)"

    def build(self):
        from models.backbones.scales import ScaleTokenizer

        made, rng = ScaleTokenizer(), np.random.default_rng(self.seed)
        images = drawn(rng, 2048)[1]
        start_features(made)
        start_layouts(made, images)
        start_entries(made, images[:256])
        start_pixels(made)
        self.idle = torch.zeros(made.codebook_size)
        return made

    def batch(self, step, progress):
        return {"images": drawn(rng_of(self.seed, step), self.size)[1]}

    def loss(self, model, batch, progress):
        images = batch["images"]
        again, coded, found = model(images)
        part = found.sums[int(torch.randint(len(found.sums), ()))].detach()  # so that unfinished sums can be shown
        error, rough = (again - images).abs(), F.mse_loss(model.paint(part), images)
        self.idle += 1
        self.idle[found.ids.unique()] = 0
        self.missed = found.wanted.flatten(0, 1), (found.wanted - model.entries[found.ids].detach()).flatten(0, 1)
        logs = {"coded": coded.detach(), "rough": rough.detach()}
        return error.mean() + 4 * error.pow(2).mean() + coded + 0.3 * rough, logs

    @torch.no_grad()
    def after_step(self, model, step, progress):
        """Entries that nobody took for a while start again as something that was just wanted."""
        dead = (self.idle > self.patience).nonzero()[:, 0]
        if len(dead) and progress < 0.7:
            model.entries[dead] = loudest(*self.missed, len(dead))
            self.idle[dead] = 0

    def state(self):
        return {"idle": self.idle}

    def load_state(self, state):
        self.idle = state["idle"]

    def quick(self, model):
        return {k: v["value"] for k, v in self.evaluate(model, 128)["metrics"].items()}

    @torch.no_grad()
    def evaluate(self, model, n: int = 512):
        asked, images = drawn(np.random.default_rng(12345), n)
        found = model.quantise(model.features(images))
        score = lambda ids: judged(asked, to_uint8(model.decode(ids)))["score"]  # noqa: E731
        metrics = {"parser score of reconstructions": figure(score(found.ids), "0-1", n),
                   "entries in use": figure(len(found.ids.unique()), f"of {model.codebook_size}", n)}
        for side, total in zip(model.scales, found.sums, strict=True):
            part = to_uint8(model.paint(total).clamp(0, 1))
            metrics[f"mean absolute error up to {side} x {side}"] = figure(
                abs(part.astype(float) - to_uint8(images)).mean(), "of 255", n)
        other = torch.roll(found.ids, 1, 0)
        return {"metrics": metrics, "trivial_baseline": {
            "parser score of another picture's tokens": figure(score(other), "0-1", n)}}


@torch.no_grad()
def start_features(model):
    """Channels of a patch start as the main directions in which patches differ from the ground's, which becomes 0."""
    patches = torch.from_numpy(distinct_patches(model.patch_size))
    flat = F.pixel_unshuffle(patches.permute(0, 3, 1, 2), model.patch_size).flatten(1)
    apart = flat - flat[0]
    basis = torch.linalg.svd(apart, full_matrices=False)
    size = basis.S[: model.local, None] / len(flat) ** 0.5
    model.to_features.weight.copy_(0.5 * basis.Vh[: model.local] / size)
    model.to_features.bias.copy_(-model.to_features.weight @ flat[0])


@torch.no_grad()
def start_layouts(model, images):
    """Layouts are centres of thumbnails, told apart along their main directions."""
    from models.backbones.scales import thumbnails

    model.layouts.copy_(k_means(thumbnails(images), len(model.layouts)))
    axes = torch.linalg.svd(model.layouts - model.layouts.mean(0), full_matrices=False).Vh
    model.directions.copy_(SPREAD * axes[: model.directions.shape[1]].T)


@torch.no_grad()
def start_entries(model, images):
    """Scale by scale, entries start as centres of what is left: one for each layout first, then a share for each map.
    """
    first = len(model.layouts)
    model.entries[:] = 1e3  # not taken yet
    model.entries[:first] = F.pad(model.layouts @ model.directions, (model.local, 0))
    at = first
    for scale, share in enumerate(SHARES, 1):
        count = int(share * (len(model.entries) - first))
        wanted = model.quantise(model.features(images)).wanted[:, model.place(scale)].flatten(0, 1)
        model.entries[at : at + count] = k_means(loudest(wanted, wanted, 8 * count), count)
        at += count
    model.entries[model.entries[:, 0] > 1e2] = 0.0


def start_pixels(model, steps: int = 1000, noise: float = 0.15):
    """The decoder first learns the patches themselves, from features that are a little off."""
    patches = torch.from_numpy(distinct_patches(model.patch_size))
    flat = F.pixel_unshuffle(patches.permute(0, 3, 1, 2), model.patch_size).flatten(1).repeat(4, 1)
    f = F.pad(model.to_features(flat).detach(), (0, model.channels - model.local + 3))
    optimiser = torch.optim.AdamW(model.to_pixels.parameters(), 2e-3)
    for step in range(steps):
        blurred = f + noise * torch.randn(f.shape, generator=torch.Generator().manual_seed(step))
        (model.to_pixels(blurred) - flat).abs().mean().backward()
        optimiser.step()
        optimiser.zero_grad()


def loudest(points, error, count: int):
    """So many of points [K, d], the likelier the larger their error [K, d]: most of a scene is empty."""
    energy = error.pow(2).sum(1) + 1e-6
    return points[torch.multinomial(energy, count, replacement=True, generator=torch.Generator().manual_seed(count))]


def k_means(points, count: int, rounds: int = 6):
    """Centres [count, d] of points [K, d]."""
    generator = torch.Generator().manual_seed(0)
    centres = points[torch.randperm(len(points), generator=generator)[:count]].clone()
    for _ in range(rounds):
        near = torch.cdist(points, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, near, points)
        held = near.bincount(minlength=count)[:, None]
        lost = points[torch.randint(len(points), (count,), generator=generator)]
        centres = torch.where(held > 0, sums / held.clamp_min(1), lost)
    return centres
