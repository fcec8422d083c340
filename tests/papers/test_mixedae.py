"""MixedAE: the traps its spec names, each with the mutant that the same check must refuse."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.backbones.kept_pairs import heads_of, masked
from models.engine import prepare, run, twin
from models.loops.mask.photos import encode, hidden_mean, patch_error
from models.papers.mixedae import mixtures as net
from models.papers.mixedae import record
from models.papers.mixedae.recipe import PhotoMixed, PhotoMixedNaive
from models.trace.params import ParamError
from tests import tiny as stand_ins
from tests.photo_nets import filled, photos
from tests.traps import caught, dice, moved, multiply_adds, only_these_move


@cache
def model():
    return stand_ins.fresh("photo-mixed-1").eval().requires_grad_(False)


@cache
def mixture(groups: int = 1):
    """Sources [G R, L, P], m [G, L], and the mixed pictures' pixels [G, 3, S, S]."""
    target, m = model().patchify(photos(4 * groups)), net.mixing(groups, 64, dice())
    return target, m, model().unpatchify(net.mix(target, m))


# ---- mixing

def blended(target, m):  # mixup: every patch is the mean of the four photos'
    return target.unflatten(0, (-1, 4)).mean(1)


def scattered(target, m):  # patches of the right photos, in other places
    return net.mix(target, m)[:, torch.randperm(64, generator=dice())]


def test_patches_are_replaced_and_stay_in_their_places():
    target, m, _ = mixture(2)
    assert (F.one_hot(m, 4).sum(1) == 16).all(), "every photo gives as many patches"
    caught(lambda mix: all(torch.equal(made[at], target[4 * g + m[g, at], at])
                           for g, made in enumerate(mix(target, m)) for at in range(64)), net.mix, blended, scattered)


def masked_instead(pixels):  # an MAE's encoder, which leaves 48 patches out
    return encode(model(), pixels, torch.arange(64.0).expand(len(pixels), -1), 48)[0]


def test_the_encoder_sees_every_patch_and_no_mask_token():
    rows = mixture()[2].transpose(1, 2)  # [1, 64 rows of pixels, 3, 64]
    caught(lambda encoder: all(moved(lambda x: encoder(x.transpose(1, 2)), rows, slice(8 * y, 8 * y + 8)).any()
                               for y in range(8)), lambda x: net.encode(model(), x)[0], masked_instead)


# ---- homologous attention

def by_head_width(q, k, count):  # the unofficial code's: the largest numbers of a query's own head, not its keys
    return q[:, :, 1:].topk(min(count, q.shape[-1]), -1).indices


def test_a_query_keeps_its_best_keys_and_hears_their_values(monkeypatch):
    attention = model().vit.layers[1].attention
    q, k, v = heads_of(model().vit.layers[1], torch.randn(1, 65, 32, generator=dice()))
    scores = q @ k.transpose(-1, -2) * attention.scaling
    least = scores[:, :, 1:, 1:].sort(-1).values[..., -net.KEPT, None]  # [1, H, L, 1]
    shut = F.pad(scores[:, :, 1:, 1:] < least, (1, 0, 1, 0))
    truth = (scores.masked_fill(shut, -torch.inf).softmax(-1) @ v).transpose(1, 2)

    def heard(keys, values):
        return torch.allclose(masked(attention, q, k, values, F.pad(keys(q, k, net.KEPT) + 1, (1, 0))), truth,
                              atol=1e-5)
    caught(heard, (net.nearest_keys, v), (by_head_width, v), (net.nearest_keys, torch.ones_like(v)))

    def asked(network):
        seen = []
        monkeypatch.setattr(net, "masked", lambda *parts: seen.append(parts[-1]) or masked(*parts))
        net.encode(network, mixture()[2])
        return seen[0] is None and seen[1] is not None  # the first of two layers is dense
    caught(asked, model(), stand_ins.mae())


# ---- one decode per photo

def one_decode(latents, m):  # one set of tokens for all photos
    return tuple(part[:1].expand_as(part) for part in net.unmix(latents, m))


def next_photo(latents, m):
    return net.unmix(latents, (m + 1) % 4)


def test_every_photo_is_decoded_from_its_own_tokens_and_graded_where_it_is_missing():
    target, m, pixels = mixture()
    latents = net.encode(model(), pixels)[0]

    def own_tokens(unmix):
        some, ids, mask = unmix(latents, m)
        for number in range(4):
            mine = torch.where(m[0] == number)[0]
            assert torch.equal(some[number, 1:], latents[0, 1 + mine])
            assert torch.equal(mask[number] == 0, m[0] == number)
            assert ids[number, mine].tolist() == list(range(16)), "each goes back to its own place"
    caught(own_tokens, net.unmix, one_decode, next_photo)
    made = net.through(model(), target, m)
    error = patch_error(made.patches, target)
    caught(lambda mean: torch.allclose(made.error(target), mean(error)), lambda one: hidden_mean(one, made.mask),
           lambda one: one.mean(1), lambda one: hidden_mean(one, 1 - made.mask))


# ---- the contrastive loss

def pair_loop(z, m) -> float:
    """The loss, written as the spec's formula."""
    found = []
    for one, source in zip(z, m.tolist()):
        weight = ((one @ one.T / net.TAU).exp() * (1 - torch.eye(len(one)))).numpy()
        found += [-np.log(weight[at, other] / weight[at].sum()) for at in range(len(one)) for other in range(len(one))
                  if other != at and source[other] == source[at]]
    return float(np.mean(found))


def across_the_batch(z, m):
    return net.contrast(z.flatten(0, 1)[None], m.flatten()[None])


def rescaled(z, m):  # the unofficial code's: logits divided by their own spread
    return net.contrast(z, m, net.TAU * float((z @ z.transpose(1, 2)).std()))


def test_siblings_are_pulled_together_within_one_mixture():
    z, m = F.normalize(torch.randn(2, 16, 8, generator=dice()), dim=-1), net.mixing(2, 16, dice())
    caught(lambda loss: float(loss(z, m)) == pytest.approx(pair_loop(z, m), rel=1e-4), net.contrast, across_the_batch,
           rescaled)


# ---- segment vectors say the answer

def test_siblings_without_segment_vectors_cannot_be_read_off_them(tiny):
    """Vectors that shout whose a patch is change only what is said with them."""
    job, loud = prepare("mixedae"), stand_ins.fresh("photo-mixed-1").eval()
    loud.segment_embeddings.data = 20 * torch.eye(4, 32)
    two = [record.mixture(replace(job, bundle=replace(job.bundle, model=one))).found for one in (job.model, loud)]
    caught(lambda which: torch.equal(*(found[which] for found in two)), record.PLAIN, record.TOLD)


# ---- the two arms

def test_the_arms_see_the_same_and_only_one_is_asked_for_siblings(monkeypatch):
    full, naive = (filled(kind, monkeypatch) for kind in (PhotoMixed, PhotoMixedNaive))
    mine, theirs = (one.batch(5, 0.5) for one in (full, naive))
    caught(lambda batch: all(torch.equal(mine[name], batch[name]) for name in mine), theirs, naive.batch(6, 0.5))
    network, everything = full.build(), ("vit.", "decoder.", "projection", "segment_embeddings")
    for told, which in ((True, everything), (False, everything[:3])):  # siblings are to be found where nobody says them
        heard = mine | {"told": torch.tensor([told])}
        only_these_move(network, lambda network, heard=heard: full.loss(network, heard, 0.0)[0], which)
    only_these_move(stand_ins.mae(), lambda network: naive.loss(network, theirs, 0.0)[0], everything[:2])


def test_work_is_counted_per_photo_with_its_decode(tiny):
    job = prepare("mixedae")
    encoder, decode = record.work(job.model, 64)

    def decodes(times):
        def all_of_it():
            some, ids, _ = net.unmix(net.encode(job.model, mixture()[2])[0], mixture()[1])
            job.model.decoder(some[:times], ids[:times])
        return multiply_adds(all_of_it) == encoder.macs + 4 * decode.macs
    caught(decodes, 4, 1)
    share = run("mixedae").traces["mask"].facts["macs"].value
    assert share == pytest.approx((encoder.macs + 4 * decode.macs) / 4e6)


# ---- the records

def test_the_records_show_whose_a_patch_is_and_what_it_keeps(tiny):
    mask, attend = (run("mixedae", params={"query": 9}).traces[tab] for tab in ("mask", "attend"))
    source = mask.steps[1].fields["source"]
    assert [len(step.where("new")) for step in mask.steps] == [0, 0] + [0, 48] * 4
    np.testing.assert_array_equal(mask.steps[-1].where("visible"), np.flatnonzero(source == 4))
    late, last = (attend.steps[at].fields["kept"] for at in (2, -1))  # the second layer, and the projected tokens
    np.testing.assert_array_equal(~np.isnan(late), attend.rows.weights[1].max(0)[9] > 0)
    assert all((one[~np.isnan(one)] == source[~np.isnan(one)]).all() for one in (late, last))
    assert attend.steps[-1].where("new").tolist() == [9] and (~np.isnan(last)).sum() == net.KEPT


@pytest.mark.parametrize("params", ({"keep": 4, "query": 63}, {"keep": 64, "query": 0, "segments": True}))
def test_every_setting_runs(tiny, params):
    found = run("mixedae", params=params, seed=8).traces["attend"].facts[f"{net.READ[0]}, {record.PLAIN}"].value
    assert (found == pytest.approx(record.CHANCE)) == (params["keep"] == 64), "all keys: chance"


def test_naive_mixing_stands_beside_and_has_no_segment_vectors(tiny):
    other = twin(prepare("mixedae", params={"segments": True}, seed=4))
    assert other.bundle.name == "photo-mixed-naive-1" and not other.params.segments and other.seed == 4
    with pytest.raises(ParamError, match="segment vectors"):
        run("mixedae", params={"segments": True}, checkpoint="photo-mixed-naive-1")
