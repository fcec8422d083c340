"""MTO: the traps its spec names, each with the mutant that the same check must refuse."""

from functools import cache

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.backbones.simmim import SimMIMForPreTraining, hiding
from models.checkpoints.store import load
from models.engine import find, prepare, run, twin
from models.loops.mask import photos
from models.papers.mto import claim, losses, record
from models.papers.mto.network import MTOForPreTraining
from models.papers.mto.recipe import PhotoMIM, PhotoMTO
from tests import tiny as stand_ins
from tests.photo_nets import filled
from tests.photo_nets import photos as noise
from tests.traps import as_, caught, moving, only_these_move, work_is_counted


@cache
def mask(count: int = 3):
    return hiding(torch.rand(count, 64, generator=torch.Generator().manual_seed(3)), 39)


def model():
    return stand_ins.fresh("photo-mto-1").eval()


def arm(kind, monkeypatch):
    made, config = filled(kind, monkeypatch), stand_ins.mae_config()
    config._attn_implementation = "eager"
    made.config = lambda: config
    return made


def not_detached(e, z, hidden):
    return F.cosine_similarity(e[None], z[~hidden], dim=-1).clamp_min(0).mean()


def test_singularity_moves_the_mask_vector_alone():
    def e_alone(f):
        only_these_move(model().requires_grad_(True), lambda net: f(
            net.mask_token[0, 0], net(noise(), mask()).z, mask()), ("mask_token",))
    caught(e_alone, losses.singular, not_detached)
    z = torch.eye(4)[None].repeat(1, 16, 1)
    assert float(losses.singular(torch.full((4,), -0.5), z, mask(1))) == 0, "apart is enough: no need to grow"
    assert float(losses.singular(z[0, 0], z, mask(1))) > float(losses.singular(z[0, 0] * 2, z, mask(1))) > 0


def test_the_mask_vector_does_not_outgrow_the_patches(shipped):
    shipped(record.NAME)
    net = load(record.NAME).model
    longest = losses.MOST * net.vit.embeddings.patch_embeddings(noise()).norm(dim=-1).mean()
    caught(lambda times: times * net.mask_token.norm() <= longest, 1.0, 1000.0)


def test_what_seen_patches_waste_is_counted_for_them_alone():
    weights = [torch.rand(3, 2, 65, 65, generator=torch.Generator().manual_seed(at)).softmax(-1) for at in range(2)]
    weights[0][:, :, 1:][mask()[:, None].expand(-1, 2, -1)] = 0  # mask tokens look at nothing
    told = np.mean([[float(w[b, h, 1 + i, 1:][mask()[b]].sum()) for h in range(2) for b in range(3)
                     for i in range(64) if not mask()[b, i]] for w in weights])
    caught(lambda f: float(f(weights, mask())) == pytest.approx(told, rel=1e-4), losses.spared,
           lambda weights, hidden: losses.spared(weights, ~hidden),
           lambda weights, hidden: sum((w[..., 1:, 1:] * hidden[:, None, None]).sum(-1).mean() for w in weights) / 2)


def test_only_rises_of_heterogeneity_cost():
    h = [torch.tensor([0.5]), torch.tensor([0.2]), torch.tensor([0.3])]
    caught(lambda f: float(f(h)) == pytest.approx(0.1), losses.ordered,
           lambda h: sum((b - a).abs() for a, b in zip(h, h[1:])), lambda h: losses.ordered(h[::-1]))


def test_the_total_weighs_the_three_losses(monkeypatch):
    made = arm(PhotoMTO, monkeypatch)
    batch, net = made.batch(0, 0.0), made.build().requires_grad_(False)
    monkeypatch.setattr(losses, "ordered", lambda h: h[-1].mean())  # two layers may have no rise

    def weighed(spa, e, r):
        for name, value in (("SPARED", spa), ("SINGULAR", e), ("ORDERED", r)):
            monkeypatch.setattr(losses, name, value)
        total, parts = made.loss(net, batch, 0.0)
        told = parts["l1"] + 0.1 * parts["spa"] + 0.1 * parts["e"] + 0.01 * parts["r"]
        assert float(total) == pytest.approx(float(told), rel=1e-5) and all(float(one) > 0 for one in parts.values())
    caught(weighed, (0.1, 0.1, 0.01), (0.1, 0.1, 0.1), (0.0, 0.1, 0.01), (0.1, 1.0, 0.01))


# ---- the recalibration

class Towards(MTOForPreTraining):  # for all queries
    def bias(self, block, hidden):
        return F.pad(hidden, (1, 0))[:, None, None] * F.logsigmoid(self.rho[0]) if block < self.early else None


class Turned(MTOForPreTraining):  # of mask tokens towards seen ones
    def bias(self, block, hidden):
        return super().bias(block, ~hidden)


class Linear(MTOForPreTraining):  # r itself on the logits
    def bias(self, block, hidden):
        return super().bias(block, hidden).exp() if block < self.early else None


def test_r_weighs_what_seen_tokens_give_to_mask_tokens_in_the_first_blocks():
    """Against the same weights without r: exactly these odds change, by r, and nothing else."""
    net = model()
    net.rho.data.fill_(-1.0)
    net.set_attn_implementation("eager")
    hidden, r = F.pad(mask(1), (1, 0))[0], net.rho[0, 0].sigmoid().item()

    def weighs(one):
        assert one.bias(1, mask(1)) is None, "the first of two blocks"
        same, plain = as_(SimMIMForPreTraining, one)(noise(1), mask(1)).weights[0], one(noise(1), mask(1)).weights[0]
        odds = (plain / same)[0]  # [H, N, N]
        asked = torch.where(~hidden[:, None] & hidden, r, 1.0)
        torch.testing.assert_close(odds / odds[..., :1], asked.expand_as(odds), rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        caught(weighs, net, *(as_(wrong, net) for wrong in (Towards, Turned, Linear)))
        whole = photos.encode_whole(net, noise(1))  # and with nothing hidden nothing changes
        torch.testing.assert_close(photos.encode_whole(as_(SimMIMForPreTraining, net), noise(1)), whole)


# ---- the two arms

def test_the_arms_have_the_same_masks_and_rates(monkeypatch):
    mine, theirs = (arm(kind, monkeypatch) for kind in (PhotoMTO, PhotoMIM))
    caught(lambda step: all(torch.equal(one, theirs.batch(step, 0.1)[name]) for name, one in
                            mine.batch(5, 0.1).items()), 5, 6)

    class OtherMasks(PhotoMTO):
        def batch(self, step, progress):
            made = super().batch(step, progress)
            return made | {"noise": made["noise"].flip(1)}

    def alike(kind):
        try:
            arm(kind, monkeypatch).differs_in_one_thing(type("Control", (PhotoMIM,), {"batch_size": 4}))
        except ValueError:
            return False
        return True
    caught(alike, PhotoMTO, OtherMasks, type("Faster", (PhotoMTO,), {"lr": 0.1}))
    assert mine.hidden == 39 == int(hiding(mine.batch(0, 0.0)["noise"], mine.hidden)[0].sum())
    assert moving(mine.build(), lambda net: mine.loss(net, mine.batch(0, 0.0), 0.0)[0]) >= {"rho", "mask_token"}


def test_the_step_is_the_first_that_is_as_good_as_the_end():
    shares, rows = np.array([0.25, 0.5, 1.0]), np.array([[0, 1, 1, 1.0], [0, 0, 1, 0]])
    caught(lambda f: (f(shares, rows), f(shares, rows[:, [0, 0, 0, 3]])) == (0.5, claim.NEVER), claim.reached,
           lambda shares, rows: float(shares[rows.mean(0)[:-1].argmax()]))


# ---- the records

def test_the_records_compare_both_networks_under_one_mask(tiny):
    job = prepare("mto", seed=4)
    found = record.compare(job)
    assert list(found.glances) == [record.PLAIN, record.MTO] and len(found.decoder) == 2
    np.testing.assert_array_equal(np.flatnonzero(found.mask[0]), found.hidden.ids)
    eager = as_(MTOForPreTraining, job.model)
    eager.set_attn_implementation("eager")
    told = [float(losses.spared(eager(found.view.pixels, found.mask).weights[at:][:1], found.mask)) for at in (0, 1)]
    caught(lambda rows: np.allclose(rows, told, atol=1e-4), found.glances[record.MTO].mass[:, 0, 1],
           found.glances[record.PLAIN].mass[:, 0, 1], found.glances[record.MTO].mass[:, 1, 0])
    work_is_counted(lambda: job.model(found.view.pixels, found.mask), record.work(job.model, 64)[1])


@pytest.mark.parametrize("ratio", (0.3, 0.9))
def test_every_ratio_runs_and_simmim_stands_beside(tiny, ratio):
    other = twin(prepare("mto", params={"mask_ratio": ratio}))
    assert other.bundle.name == record.BASE
    for id in ("mto", "mto-control"):
        traces = run(id, params={"mask_ratio": ratio}).traces
        assert len(traces["attend"].steps) == 3 and len(traces["mask"].steps) == (5 if id == "mto" else 4)


def test_the_card_says_whose_formulas_these_are():
    caught(lambda text: "Mechanism from the abstract; formulas are this project's" in text,
           find("mto").card.not_covered, find("mto").card.summary)
