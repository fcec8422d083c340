"""The Spacefile is checked before anything is uploaded; what is uploaded is what a Space needs; on a loopback Hub."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.loopback import Answers, answering
from tools import space

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Spacefile").read_text("utf-8")


def test_the_spacefile_is_fine_and_the_readme_says_the_same():
    front = space.front_matter(space.declared(TEXT))
    readme = (ROOT / "README.md").read_text("utf-8")
    assert space.with_front(readme, front) == readme, "run make space and commit README.md"
    assert yaml.safe_load(front.split("---")[1])["sdk_version"] == "6.31.0" and "preload" not in front


@pytest.mark.parametrize("change, word", [
    ({"sdk_version": "6.30.0"}, "6.31.0"), ({"python_version": "3.10"}, "3.12"), ({"sdk": "docker"}, "gradio"),
    ({"colorTo": "mauve"}, "indigo"), ({"suggested_hardware": "h100"}, "cpu-basic"),
    ({"app_file": "main.py"}, "main.py"),
    ({"short_description": "x" * 61}, "60"), ({"preload": ["no-such-weights"]}, "no-such-weights"),
    ({"fullWidth": "yes"}, "bool"), ({"sleep": 3}, "sleep"), ({"python_version": 3.12}, "str"),
])
def test_what_the_hub_would_stumble_over_is_said_before(change, word):
    with pytest.raises(space.SpaceError, match=word):
        space.declared(yaml.safe_dump(yaml.safe_load(TEXT) | change))


def test_what_is_missing_is_named():
    with pytest.raises(space.SpaceError, match="title"):
        space.declared(yaml.safe_dump({k: v for k, v in yaml.safe_load(TEXT).items() if k != "title"}))
    with pytest.raises(space.SpaceError, match="keys"):
        space.declared("just words")


def test_a_readme_without_front_matter_gets_one_and_keeps_its_text():
    text = "# Title\n---\nline\n---\n"
    assert space.with_front(text, "---\na: 1\n---\n") == f"---\na: 1\n---\n\n{text}"


def test_everything_that_runs_is_uploaded_and_nothing_else():
    names = {file.as_posix() for file in space.uploaded()}
    assert {"app.py", "requirements.txt", "Spacefile", "README.md", "LICENSE", "kernels/rows.c"} <= names
    assert not any(name.startswith(("tests/", "training/", ".ci/", "benchmarks/", "tools/")) for name in names)
    assert "files in all" in space.report(space.uploaded())


def test_too_large_a_space_is_refused(monkeypatch):
    monkeypatch.setattr(space, "LARGEST_SPACE", 1000)
    with pytest.raises(space.SpaceError, match="more than a Space holds"):
        space.report(space.uploaded())


class Hub(Answers):
    """As much of the Hub as creating a Space and one commit need; remembers what it was asked."""

    asked: list = []

    @property
    def here(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def say(self, found):
        self.answer(json.dumps(found).encode())

    def do_GET(self):
        Hub.asked.append((self.path, self.headers.get("Authorization")))
        tree = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in ("old.py", ".gitattributes")]
        self.say(tree if "/tree/" in self.path else {"id": "a/b", "sha": "0" * 40, "siblings": [
            {"rfilename": "old.py"}, {"rfilename": ".gitattributes"}]})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Hub.asked.append((self.path, self.headers.get("Authorization"), body))
        if "preupload" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            self.say({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif "/commit/" in self.path:
            self.say({"success": True, "commitUrl": f"{self.here}/spaces/a/b/commit/1", "commitOid": "1" * 40,
                      "hookOutput": ""})
        else:
            self.say({"url": f"{self.here}/spaces/a/b", "name": "a/b", "id": "1"})


@pytest.fixture
def hub(monkeypatch):
    Hub.asked = []
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with answering(Hub) as address:
        yield address


def test_a_push_is_one_commit_that_also_deletes_what_is_gone(hub, tmp_path):
    """Mutants: a token in the address, files of an older version left behind, a commit per file."""
    (tmp_path / "app.py").write_text("print(1)\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    space.push("a/b", space.uploaded(tmp_path), tmp_path, hub)
    commits = [body for path, _, body in (a for a in Hub.asked if len(a) == 3) if "/commit/" in path]
    lines = [json.loads(line) for line in commits[0].decode().splitlines()]
    said = {(line["key"], line["value"].get("path")) for line in lines}
    assert len(commits) == 1 and {("file", "app.py"), ("deletedFile", "old.py")} <= said
    assert ("deletedFile", ".gitattributes") not in said
    assert all("hf_test" not in a[0] and a[1] == "Bearer hf_test" for a in Hub.asked)
    created = next(json.loads(a[2]) for a in Hub.asked if a[0].endswith("/repos/create"))
    assert created["type"] == "space" and created["sdk"] == "gradio"


def test_without_a_target_nothing_is_asked_of_the_hub(hub, capsys):
    assert space.main([]) == 0
    assert "Dry run" in capsys.readouterr().out and not Hub.asked


def test_a_space_listens_where_it_is_told_and_preloads_what_it_declares(monkeypatch):
    import app

    monkeypatch.delenv("HOST", raising=False)
    monkeypatch.setattr("sys.argv", ["app.py"])
    assert app.flags().host == "127.0.0.1" and app.preloaded() == []
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("SPACE_ID", "a/b")
    assert app.flags().host == "0.0.0.0" and app.preloaded() == yaml.safe_load(TEXT)["preload"]
