"""The picture of a node among its own: everybody within two links, once, and nobody hears himself or nobody."""
import numpy as np

from models.loops.attend.surroundings import Surroundings

LINKS = [[1, 2], [0, 2, 3], [0, 1], [1, 4], [3]]  # a triangle with a tail


def test_everybody_within_two_links_has_a_place_and_every_link_between_them_stands():
    around = Surroundings(LINKS, 0, "ABCDE")
    assert around.canvas.labels == ("A", "B", "C", "D") and around.places([3, -1, 0]) == [3, 0], "E is too far away"
    assert around.canvas.links.tolist() == [[0, 1], [0, 2], [1, 2], [1, 3]]
    rings = np.linalg.norm(around.canvas.positions, axis=1)
    assert np.allclose(rings, [0, 1, 1, 2]) and len({tuple(spot) for spot in around.canvas.positions.tolist()}) == 4
    found = around.edges(np.array([0, 0, 1, 1]), np.array([0, 2, -1, 3]), np.array([0.5, 0.5, 1.0, 0.0]))
    assert (found.query.tolist(), found.key.tolist(), found.weight.tolist()) == ([0], [2], [0.5])
    alone = Surroundings([[]], 0, "A").canvas
    assert alone.size == 1 and alone.links.shape == (0, 2)
