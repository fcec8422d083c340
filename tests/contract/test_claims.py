"""Every claim runs from end to end on stand-ins in quick mode and is judged by rule: no paper needs a test for that."""

from importlib.util import find_spec

import numpy as np
import pytest

from models.claims import VERDICTS, Lab, MissingData, place, stamped
from models.claims.harness import MOST
from models.engine.method import atlas, find

CARDS = {"electra"}  # read figures off the cards of their networks, and stand-ins have none
CLAIMS = [id for id in atlas() if find_spec(place(id)) and id not in CARDS]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("id", CLAIMS)
def test_a_claim_measures_and_states_a_verdict(id, tiny, photo_data):
    try:
        found = stamped(find(id), Lab(quick=True, data=photo_data))
    except MissingData as missing:
        pytest.skip(str(missing))
    asked = [row for row in (*found.rows, *found.context) if row.kind != "context"]  # some of them were not judged
    assert found.method == id and found.verdict in VERDICTS and found.reason and found.checkpoints
    assert 1 <= len(asked) <= MOST and len(found.arms) > 1
    assert all(np.isfinite(row.value) for row in (*found.rows, *found.context, *found.controls))
