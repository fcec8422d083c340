"""CtrlDiff: a policy that is one, equal passes, a judge that did not guide; the traps of the spec beside mutants."""
import numpy as np
import pytest
import torch

from models.backbones.block_diffusion import SIZES, Ahead
from models.engine.method import prepare, run
from models.loops.unmask.blocks import Text, at_random, by_entropy, by_size
from models.papers.ctrldiff import method, recipe
from models.papers.ctrldiff.network import BlockPolicy
from models.papers.ctrldiff.rule import GAMMA, block_costs, by_policy, returns
from models.trace import Cost
from models.trace.params import ParamError
from models.trace.subject import SubjectError, from_text
from tests.traps import caught, only_these_move

TEXT = from_text("A happy tale of the sea.")
pytestmark = pytest.mark.usefixtures("one_thread")


def ahead(seed: int = 0) -> Ahead:
    dice = torch.Generator().manual_seed(seed)
    return Ahead(torch.randn(6, 32, generator=dice), 4 * torch.randn(6, 16, 60, generator=dice),
                 torch.full((6,), 40), Cost())


def test_what_is_called_the_policy_is_a_trained_network():
    """Its sizes follow its weights. Mutants: the entropy rule, random and fixed sizes."""
    policy = BlockPolicy(32)

    def follows(choose) -> bool:
        made = []
        for at, _ in enumerate(SIZES):
            with torch.no_grad():
                policy.layers[-1].bias.copy_(100.0 * torch.eye(len(SIZES))[at])
            made.append(choose(policy)(ahead(), range(6)))
        return made == [[size] * 6 for size in SIZES]
    caught(follows, by_policy, lambda _: by_entropy(1.0), lambda _: at_random(0.0, np.random.default_rng(0)),
           lambda _: by_size(2))


@pytest.mark.parametrize("blocks", ["policy", "frugal", "entropy", "random", "fixed"])
def test_only_policies_load_a_policy_and_show_what_it_thought(blocks, tiny):
    trace = run("ctrldiff", TEXT, {"blocks": blocks}).traces["unmask"]
    shown = any("how long the block is" in step.distributions for step in trace.steps)
    charts = [chart.title for chart in trace.charts]
    assert shown == (blocks in method.POLICIES) == ("What the policy thought of each size" in charts)


def test_a_block_is_worth_the_sum_of_its_words_and_of_its_passes():
    """Mutants: means per block, which pay for few blocks; passes that fill in alone."""
    nats = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    text = Text([9] * 7, [4, 8])  # its last block stands half behind the end
    costs = block_costs(text, nats)
    caught(lambda found: np.allclose(found, [[10, 4, 4], [18, 5, 3]]), costs, costs / costs[:, 2:],
           costs - [0, 1, 0])
    rho, price = 3.0, 0.5
    last = rho * 3 - 18 - price * 5
    caught(lambda found: np.allclose(found, [rho * 4 - 10 - price * 4 + GAMMA * last, last]),
           returns(costs, price, rho), returns(costs, price, 0.0), returns(costs, 0.0, rho),
           returns(costs[::-1], price, rho))


def test_training_moves_the_policy_alone_and_pays_for_good_sizes(arms, monkeypatch):
    """Where only single words are cheap, single words become likelier. Mutant: the reward turned round."""
    made = arms(recipe.CheapSizes)
    made.rows = 3
    batch, policy = made.batch(0, 0.0), made.build()
    only_these_move(policy, lambda net: made.loss(net, batch, 0.0)[0], ("norm", "layers", "baseline"))
    assert not any(weight.requires_grad for weight in made.base.parameters())

    def learned(sign: float) -> bool:
        def costs(prompts, choose, dice):
            drawn = [choose(ahead(int(dice.initial_seed()) % 97), [row] * 6) for row, _ in enumerate(prompts)]
            return [np.array([[sign * 10.0 * (size > 1), 2.0, 1.0] for size in sizes]) for sizes in drawn]
        monkeypatch.setattr(made, "costs", costs)
        torch.manual_seed(0)
        policy = BlockPolicy(32)
        optimiser = torch.optim.Adam(policy.parameters(), 3e-2)
        for step in range(25):
            batch = made.batch(step, 0.0)
            loss, _ = made.loss(policy, batch, 0.0)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return by_policy(policy)(ahead(5), range(6)) == [1] * 6
    caught(learned, 1.0, -1.0)


def test_the_judge_did_not_guide(tiny, monkeypatch):
    """Mutant: the guiding classifier as evaluator."""
    story = {}
    from models.papers.ctrldiff import record
    real = record.Story.__init__
    monkeypatch.setattr(record.Story, "__init__", lambda self, *given: real(self, *given) or story.update(it=self))
    facts = run("ctrldiff", TEXT, {"label": "happy"}).traces["sample"].facts
    it = story["it"]

    def says(classifier) -> bool:
        from models.backbones.story_classifier import label_logp
        with torch.no_grad():
            sure = float(label_logp(classifier(it.so_far(len(it.spans))), 0).exp())
        return bool(np.isclose(facts["label"].value, 100 * sure))
    with torch.no_grad():
        it.guide.labels_head.bias += torch.randn(11)
    caught(says, it.judge, it.guide)
    assert method.GUIDE != method.JUDGE


def test_a_prompt_that_leaves_no_room_is_refused(tiny):
    with pytest.raises(SubjectError, match="longest text"):
        run("ctrldiff", from_text("A tale. " * 12), {"length": 24})
    with pytest.raises(ParamError):
        prepare("ctrldiff", TEXT, {"size": "3"})
