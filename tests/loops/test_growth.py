"""Growing behind a cache: the cached passes are the whole pass, every code is drawn once, work is what is computed."""

import pytest
import torch

from kernels import Sampler, draw
from models.loops.unmask.evaluation import guided
from models.loops.unmask.growth import GivenTokens, Raster, grow, ids_of
from tests.traps import caught, work_is_counted

COND = torch.tensor([[3, 20, 0, 0, 0], [8, 0, 0, 0, 0]])
pytestmark = pytest.mark.usefixtures("one_thread")


def grown(model, pull=0.0, **options):
    words = model.with_null(COND) if pull else COND
    return list(grow(Raster(model, words), 2, torch.Generator().manual_seed(1), pull=lambda index: pull, **options))


def test_cached_passes_are_the_whole_pass(tiny):
    model = tiny.causal_scene().eval()

    @torch.no_grad()
    def whole(pull, asked):
        """Guided logits of the codes drawn, from one pass over each branch."""
        found = grown(model, pull)
        both = model(ids_of(found).repeat(2, 1), model.with_null(COND))
        return torch.allclose(torch.cat([one.logits for one in found], 1), guided(both, 2, asked), atol=2e-4)

    caught(whole, (1.5, 1.5), (1.5, 0.0))
    assert whole(0.0, 0.0)


@pytest.mark.parametrize("sampler", [Sampler(), Sampler(1.0, 5, 0.9), Sampler(1.0, 1, 1.0)])
def test_every_code_is_drawn_once_from_its_own_distribution(sampler, tiny):
    model, generator = tiny.causal_scene().eval(), torch.Generator().manual_seed(1)
    for one in grown(model, sampler=sampler):
        assert torch.equal(one.ids, draw(one.logits, sampler, generator)) and bool(one.drawn.all())
        assert sampler.top_k != 1 or torch.equal(one.ids, one.logits.argmax(-1)), "top-k 1 is the likeliest"


def test_what_is_given_stays_and_what_follows_reads_it(tiny):
    model = tiny.causal_scene().eval()
    free, inside = grown(model), torch.arange(64) >= 20
    given = GivenTokens((ids_of(free) + 1) % 48, inside)
    found = grown(model, given=given)
    assert torch.equal(ids_of(found)[:, :20], given.ids[:, :20]) and not any(bool(one.drawn) for one in found[:20])
    assert torch.equal(found[0].logits, free[0].logits) and not torch.allclose(found[1].logits, free[1].logits)


def test_work_is_what_is_computed(tiny):
    model = tiny.causal_scene().eval()
    reader, ids = Raster(model, COND), torch.zeros(2, 64, dtype=torch.long)
    for index in range(4):
        work_is_counted(lambda at=index: reader.read(at, ids[:, :at] if at else None), reader.cost(index).macs)
    assert reader.cost(3).cache_bytes == 2 * 2 * 2 * (5 + 4) * 32 * 4
