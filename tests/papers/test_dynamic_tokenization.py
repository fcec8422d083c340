"""Dynamic tokenization: merges of this batch, invented embeddings; every trap of the paper beside its mutants."""
import copy
from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from models.engine.method import follow, prepare, run, twin
from models.papers.dynamic_tokenization import network
from models.papers.dynamic_tokenization.merging import Pieces, merged, merging, replaced
from models.papers.dynamic_tokenization.method import Paragraphs, Params
from models.papers.dynamic_tokenization.recipe import TextDynamic
from models.trace.subject import from_text
from tests import tiny as stand_ins
from tests.traps import caught, only_these_move, work_is_counted

FARM = "The goblin said, \"a goblin!\"\n\nA goblin, said the hen."
SEA = "The mast fell.\n\nA mast, said the mate, the mast of the mate."
TOKENIZER = stand_ins.text_tokenizer()


def rows(text: str) -> list[list[int]]:
    return [TOKENIZER.encode(part, add_special_tokens=False) for part in text.split("\n\n")]


def test_each_merge_takes_the_commonest_pair_of_this_very_batch():
    """Mutant: merges that were learned before, on another batch."""
    def commonest(batch: str) -> bool:
        pieces, texts = Pieces(TOKENIZER), rows(FARM)
        for left, right, made, often in merging(rows(batch), pieces):
            counts = Counter(pair for text in texts for pair in zip(text, text[1:]) if pieces.allowed(*pair))
            if not often == counts[left, right] == max(counts.values()):
                return False
            texts = [replaced(text, (left, right), made) for text in texts]
        return len(pieces.letters) > pieces.base
    caught(commonest, FARM, SEA)


def test_no_piece_crosses_its_boundary_and_none_holds_a_space_inside():
    def kept(boundary: str) -> bool:
        pieces = Pieces(TOKENIZER, boundary)
        names = [pieces.name(one) for text in merged(rows(FARM), pieces) for one in text]
        assert "".join(names) == FARM.replace("\n\n", "") and not any(" " in name[1:] for name in names)
        return any(len(name) > 3 for name in names) and " goblin," not in names
    caught(kept, "pretokens", "word")
    pairs = [TOKENIZER.convert_tokens_to_ids([*pair]) for pair in ("a\u0120", "\u010a\u010a", "\u0120a", "aa")]
    assert [Pieces(TOKENIZER).allowed(*pair) for pair in (*pairs, (0, 9))] == [False, False, True, True, False]


def test_a_torn_character_may_be_completed_and_pairs_are_replaced_from_the_left():
    torn, pieces = TOKENIZER.encode("\u20ac", add_special_tokens=False), Pieces(TOKENIZER)
    assert len(torn) == 3 and [pieces.name(one) for one in merged([torn], pieces)[0]] == ["\u20ac"]
    caught(lambda text: text == [9, 7, 8], replaced([7, 7, 7, 8], (7, 7), 9), replaced([8, 7, 7, 7], (7, 7), 9)[::-1])


@pytest.fixture
def parts():
    hypernetwork, pieces = stand_ins.bundle("text-dynamic-1").model, Pieces(TOKENIZER)
    return stand_ins.bundle("text-ar-1").model, hypernetwork, pieces, merged(rows(FARM), pieces, 12)


def test_a_piece_is_what_the_hypernetwork_makes_of_its_own_tokens_and_not_their_mean(parts):
    trunk, hypernetwork, pieces, _ = parts
    table, rows = trunk.get_input_embeddings().weight, pieces.spelled[pieces.base :]
    both = [network.invented(one, hypernetwork, table, network.padded(rows))[0] for one in ("hypernetwork", "mean")]
    caught(lambda made: not torch.allclose(made, both[1], atol=1e-3), *both)
    alone = [network.invented("hypernetwork", hypernetwork, table, torch.tensor([row]))[0] for row in rows]
    torch.testing.assert_close(both[0], torch.cat(alone), atol=1e-4, rtol=1e-3)  # padding is not heard


def test_pieces_stand_at_consecutive_places(parts):
    """Mutant: a piece takes up the places of all its tokens, so that nothing gets shorter."""
    trunk, hypernetwork, pieces, texts = parts
    numbers, model = torch.tensor(texts[:1]), network.larger(trunk, pieces, "hypernetwork", hypernetwork)

    def at(places):
        states = trunk.model(inputs_embeds=model.rows[numbers], position_ids=torch.tensor([places]), use_cache=False)
        return trunk.lm_head(states.last_hidden_state)
    apart = np.cumsum([len(pieces.spelled[one]) for one in texts[0]]).tolist()
    caught(lambda places: torch.allclose(model(numbers).logits[..., : pieces.base], at(places), atol=1e-4),
           [*range(len(texts[0]))], apart)


def test_surprise_is_counted_per_character(tiny):
    """Mutant: per piece, where merging alone changes the number."""
    job = prepare("dynamic-tokenization", from_text(FARM))
    trace, batch = run("dynamic-tokenization", job.subject, {"merges": 10}).traces["prune"], Paragraphs(job)
    texts = merged(batch.rows, batch.pieces, 10)
    logits = network.read(job.model, texts, batch.pieces, "hypernetwork", job.companion("text-dynamic-1").model)
    nats = float(cross_entropy(logits.mT, network.padded(texts), ignore_index=-1, reduction="sum"))
    caught(lambda units: trace.facts["merged pieces"].value == pytest.approx(nats / np.log(2) / units, rel=1e-3),
           len(FARM), sum(map(len, texts)))


def test_the_batch_is_shown_before_it_is_read_again(tiny):
    found = follow(prepare("dynamic-tokenization"))
    assert [len(next(found).traces["prune"].steps) for _ in range(2)] == [1, 2]


def test_tokens_join_on_the_canvas_and_the_twin_takes_their_mean(tiny):
    trace = run("dynamic-tokenization", from_text(FARM), {"merges": 10, "length": 3}).traces["prune"]
    last, gone = trace.steps[-1], trace.steps[-1].where("unknown")
    assert "".join(trace.vocabulary[int(id)] for id in last.ids if id >= 0) == FARM == trace.canvas.text
    assert len(gone) + len(last.where("known", "merged")) == len(last.ids) and set(last.ids[gone]) == {-1}
    assert set(gone) == {key for step in trace.steps[1:-1] for key in step.edges["merges"].key}
    assert twin(prepare("dynamic-tokenization", from_text(FARM), {"merges": 10})).params == Params(10, "mean")


def test_only_the_hypernetwork_learns_and_its_work_is_counted(parts):
    trunk, pieces, texts, recipe = parts[0], *parts[2:], TextDynamic(0)
    hypernetwork, recipe.base = copy.deepcopy(parts[1]).requires_grad_(True), trunk
    spelled = network.padded(pieces.spelled[pieces.base :])
    batch = {"numbers": network.padded(texts), "spelled": spelled, "same": torch.tensor([5, 9])}
    only_these_move(torch.nn.ModuleDict({"trunk": trunk, "beside": hypernetwork}),
                    lambda both: recipe.loss(both["beside"], batch, 0.0)[0], ["beside"])
    tokens = trunk.get_input_embeddings().weight[spelled.clamp_min(0)]
    work_is_counted(lambda: hypernetwork(tokens, spelled >= 0), hypernetwork.work(pieces.spelled[pieces.base :]))
