"""What counts to a paper: its folder, its tests, and what it alone uses, wherever that lies."""

import pytest

from tools.paper_cost import ROOT, Tree, lines, named_modules, networks, report

FILES = {
    "models/papers/one/__init__.py": 'NETWORKS = {"OneNet": "network"}\n',
    "models/papers/one/method.py": "from models.loops import shared, only_one\nimport models.backbones.deep\n",
    "models/papers/one_more/__init__.py": "",
    "models/papers/one_more/method.py": "def run():\n    from models.loops.shared import f\n",
    "models/baselines/plain/__init__.py": "",
    "models/baselines/plain/method.py": "from models.worlds.plain_world import draw\n",
    "models/loops/__init__.py": "",
    "models/loops/shared.py": "f = 1\n",
    "models/loops/only_one.py": "from models.loops import below\n",
    "models/loops/below.py": "a = 1\nb = 2\nc = 3\n",
    "models/backbones/deep.py": "",
    "models/checkpoints/registry.py": 'READERS = {"OneNet": "models.papers.one.network:OneNet"}\n',
    "models/worlds/plain_world.py": "def draw(): pass",
    "training/trunks/trunk.py": "",
    "training/trunks/other.py": "import training.trunks.trunk\n",
    "tests/papers/test_one.py": "from models.papers.one import method\nfrom models.loops import shared\n\n\n",
    "tests/papers/test_one_more.py": "import tests.helper\n",
    "tests/helper.py": "import models.papers.one.method\n",
    "tests/loops/test_below.py": "import models.loops.below\n",
    "app.py": 'first = "one-more"\n',
}


@pytest.fixture
def tree(tmp_path):
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, "utf-8")
    return Tree(tmp_path)


def test_a_file_with_one_user_counts_to_that_user(tree):
    one = tree.cost("papers/one")
    elsewhere = {"models/loops/only_one.py", "models/loops/below.py", "models/backbones/deep.py"}
    assert set(one.lines) == {"models/papers/one/__init__.py", "models/papers/one/method.py",
                              "tests/papers/test_one.py"} | elsewhere
    assert one.total == 1 + 2 + 4 + 1 + 3 + 0
    assert one.alone("papers/one") == 1 + 3 + 0, "those that a second user would take away"
    assert "models/worlds/plain_world.py" in tree.cost("baselines/plain").lines
    assert "models/loops/shared.py" in tree.shared["models/loops"].lines, "two papers use it"


def test_a_test_is_the_papers_whose_name_is_longest_and_no_user(tree):
    assert set(tree.cost("papers/one_more").lines) >= {"tests/papers/test_one_more.py", "tests/helper.py"}
    assert "tests/loops/test_below.py" in tree.shared["tests/loops"].lines
    assert "models/loops/below.py" in tree.cost("papers/one").lines, "a test of a file is no second user"


def test_trunks_and_packages_count_to_nobody(tree):
    assert {"training/trunks/trunk.py", "training/trunks/other.py"} <= set(tree.shared["training/trunks"].lines)
    assert "models/loops/__init__.py" in tree.shared["models/loops"].lines


def test_edits_elsewhere_are_files_that_name_the_paper(tree):
    assert tree.cost("papers/one").elsewhere == ["models/checkpoints/registry.py"]
    assert tree.cost("papers/one_more").elsewhere == ["app.py"]
    assert tree.cost("baselines/plain").elsewhere == []


def test_every_file_is_counted_once(tree):
    costs = [*(tree.cost(home) for kind in ("papers", "baselines") for home in tree.homes(kind)), *tree.shared.values()]
    counted = [path for cost in costs for path in cost.lines]
    assert sorted(counted) == sorted(path for path in FILES if path.endswith(".py") and path != "app.py")


def test_imports_are_seen_in_every_form():
    text = 'import a.b\nfrom c import d\nfrom . import e\nfrom ..f import g\nx = "models.h.i"\ny = "models are fine"\n'
    assert named_modules(text, "p.q.r") == {"a.b", "c.d", "p.q.e", "p.f.g", "models.h.i"}
    assert lines("a\nb") == lines("a\nb\n") == 2 and lines("") == 0
    assert networks('NETWORKS = {"A": "x", "B": "y"}') == ["A", "B"] and networks("A = 1") == []


def test_the_table_of_this_project_names_all_papers():
    text = report(Tree())
    assert all(f"\n{folder.name} " in text for folder in (ROOT / "models" / "papers").iterdir()
               if (folder / "method.py").is_file())
    assert "\nmedian" in text and "shared, per room" in text
