"""Nothing that a visitor typed or uploaded outlives their page, and nothing hostile that they send does harm.

Where each item of the security checklist is tested stands in SECURITY.md.
"""

import io
import json
import os
import re
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from models.trace import limits
from models.trace.subject import SubjectError, from_image
from tests.app.conftest import ARGUMENTS, chromium
from tests.app.pages import TABS, open_tab, picture, run, toast
from tests.local_server import ROOT, serving
from tests.visitor import Visitor
from visualizers.server import session_cleanup

SECRET = "xyzzyplugh"  # typed, in a file's name, in its EXIF and in its pixels' comment


# ---- what a page leaves behind ---------------------------------------------------------------------------------------

def marked(form: str = "JPEG") -> bytes:
    """A photo that names its owner in its EXIF."""
    out, tags = io.BytesIO(), Image.Exif()
    tags[0x013B], tags[0x010E] = SECRET, f"the home of {SECRET}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(out, form, exif=tags)
    assert SECRET.encode() in out.getvalue()
    return out.getvalue()


def holding(folder: Path) -> list[str]:
    """Files and folders below that carry the secret, in their name or in their bytes, plain or as UTF-16."""
    words = (SECRET.encode(), SECRET.encode("utf-16-le"))
    return [str(path) for path in folder.rglob("*") if SECRET in path.name
            or (path.is_file() and any(word in path.read_bytes() for word in words))]


def upload(url: str, name: str, data: bytes) -> str:
    """A file sent as the page sends it; the path under which the server put it."""
    line = "boundary7"
    body = (f'--{line}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
            "Content-Type: image/png\r\n\r\n").encode() + data + f"\r\n--{line}--\r\n".encode()
    asked = urllib.request.Request(f"{url}/gradio_api/upload", body, {
        "Content-Type": f"multipart/form-data; boundary={line}"})
    return json.load(urllib.request.urlopen(asked))[0]


@pytest.mark.browser
def test_nothing_typed_or_uploaded_is_left_when_the_tab_is_closed(browser, tmp_path):
    """Disk, log and the browser's own profile. Waits for the server's seconds, shortened in tests.app.serve."""
    places = {name: tmp_path / name for name in ("temp", "home", "profile")}
    for place in places.values():
        place.mkdir()
    env = {"TMPDIR": str(places["temp"]), "HOME": str(places["home"]), "GRADIO_TEMP_DIR": ""}
    with serving(tmp_path, env=env) as server:
        kept = browser.browser_type.launch_persistent_context(str(places["profile"]), executable_path=chromium(),
                                                              args=ARGUMENTS)
        page = kept.new_page()
        page.set_default_timeout(90_000)
        page.goto(f"{server.url}/?tab=sample")
        page.locator("#sample-text textarea, #sample-text input").first.fill(f"Once {SECRET} was")
        run(page, "sample")
        open_tab(page, "mask")
        page.locator("#mask-photo").locator("xpath=preceding-sibling::input[@type='file'][1]").set_input_files(
            {"name": f"{SECRET}.jpg", "mimeType": "image/jpeg", "buffer": marked()})
        expect(page.locator("#mask-picker [aria-label='Your own']")).to_have_attribute("aria-checked", "true")
        run(page, "mask")
        upload(server.url, f"left-{SECRET}.jpg", marked())  # and one that no page ever reads
        assert holding(places["temp"]), "the way of looking finds what is there"
        page.close()
        ends = time.monotonic() + 60
        while holding(places["temp"]) and time.monotonic() < ends:
            time.sleep(0.5)
        assert not holding(places["temp"]) and not holding(places["home"])
        kept.close()
        assert not holding(places["profile"])
    for log in (server.out, server.log):
        assert SECRET not in log.read_text()


def test_a_session_is_dropped_when_its_page_was_left(monkeypatch, tmp_path):
    """Mutants: dropping at once (a page that reloads), dropping who came back, keeping who did not."""
    monkeypatch.setattr(session_cleanup.threading, "Thread", lambda **_: SimpleNamespace(start=lambda: None))
    import datetime
    used = {name: datetime.datetime.now() for name in ("gone", "back")}
    holder = SimpleNamespace(session_data={"gone": 1, "back": 1, "here": 1}, time_last_used=used)
    queue = SimpleNamespace(pending_event_ids_session={"gone": set()}, pending_messages_per_session={"gone": 1})
    page = SimpleNamespace(state_holder=holder, _queue=queue, upload_file_set={"/not/there"})
    found, now = session_cleanup.Forgetting(page, tmp_path), time.time()
    for name in ("gone", "back"):
        found.note(SimpleNamespace(session_hash=name))
    used["back"] = datetime.datetime.now() + datetime.timedelta(seconds=5)
    found.tidy(now + session_cleanup.AWAY / 2)
    assert set(holder.session_data) == {"gone", "back", "here"}
    found.tidy(now + session_cleanup.AWAY + 1)
    assert set(holder.session_data) == {"back", "here"} and not found.left
    assert not queue.pending_event_ids_session and not queue.pending_messages_per_session and not page.upload_file_set


def test_old_uploads_are_swept_and_new_ones_stay(tmp_path):
    for name, age in (("a/old.png", 100), ("b/new.png", 1), ("deep_links/c/state.json", 100)):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text("x")
        os.utime(path, (time.time() - age,) * 2)
    session_cleanup.sweep(tmp_path, time.time() - 40)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == ["b", "b/new.png"]


def test_everything_is_forgotten_within_a_minute():
    assert session_cleanup.KEEP + session_cleanup.EVERY < 60 and session_cleanup.AWAY + session_cleanup.EVERY < 60


def test_a_foreign_folder_in_the_shared_temp_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    monkeypatch.setattr(session_cleanup.tempfile, "tempdir", str(tmp_path))
    own = session_cleanup.own_folder()
    assert own.parent == tmp_path and own.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    monkeypatch.setattr(session_cleanup.os, "getuid", lambda: own.stat().st_uid + 1)
    (tmp_path / f"tokenscope-{own.stat().st_uid + 1}").mkdir()
    assert session_cleanup.own_folder().name.startswith("tokenscope-") and "-" in session_cleanup.own_folder().name


# ---- hostile files ---------------------------------------------------------------------------------------------------

def polyglot() -> bytes:
    """A picture that is also an archive and also a page with a script."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("app.py", "print('pwned')")
    return picture() + b"<script>window.pwned=1</script>" + archive.getvalue()


def test_of_a_polyglot_and_of_exif_only_pixels_are_kept():
    for data in (polyglot(), marked(), marked("PNG"), marked("WEBP")):
        own = from_image(data)
        assert isinstance(own.image, np.ndarray) and own.image.dtype == np.uint8 and own.text == own.name == ""
        assert SECRET.encode() not in own.image.tobytes() and b"script" not in own.image.tobytes()


@pytest.mark.parametrize("data", [
    b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><image href='file:///etc/passwd'/></svg>",
    b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run", b"<html><script>1</script></html>", b"BM" + b"\x00" * 100,
    b"II*\x00" + b"\xff" * 64, b"\x00\x00\x00 ftypavif" + b"\x00" * 64])
def test_only_four_kinds_of_picture_are_opened(data):
    """SVG, PostScript (which runs programs), pages, BMP, TIFF, AVIF."""
    with pytest.raises(SubjectError, match="PNG, JPEG, WebP or GIF"):
        from_image(data)


@pytest.mark.browser
@pytest.mark.parametrize("name", [
    "../../../escape.png", "..%2f..%2fescape.png", "<img src=x onerror=window.pwned=1>.png", "a\\..\\..\\escape.png",
    "x" * 300 + ".png", "con.png", "-rf.png", "\u202egnp.exe.png"])
def test_hostile_file_names_stay_in_their_folder(server, name):
    path = Path(upload(server.url, name, picture()))
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or session_cleanup.own_folder())
    assert folder.resolve() in path.resolve().parents and not (ROOT / "escape.png").exists()
    assert "<" not in path.name and len(path.name) < 256


@pytest.mark.browser
def test_a_polyglot_with_a_hostile_name_is_only_a_picture_on_the_page(visit):
    page = visit("?tab=mask")
    page.locator("#mask-photo").locator("xpath=preceding-sibling::input[@type='file'][1]").set_input_files(
        {"name": "<img src=x onerror=window.pwned=1>.png", "mimeType": "image/png", "buffer": polyglot()})
    expect(page.locator("#mask-picker [aria-label='Your own']")).to_have_attribute("aria-checked", "true")
    assert page.evaluate("window.pwned") is None
    page.locator("#mask-photo").locator("xpath=preceding-sibling::input[@type='file'][1]").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": b"<svg xmlns='http://www.w3.org/2000/svg'/>"})
    toast(page, "cannot be read as a picture")


@pytest.mark.browser
@pytest.mark.parametrize("path", [str(ROOT / "README.md"), "/etc/hostname", "../README.md", "http://127.0.0.1:9/x.png"])
def test_a_path_instead_of_an_upload_is_neither_read_nor_deleted(server, path):
    """take_photo deletes what it read: a program must not make it read anything but its own upload."""
    visitor = Visitor(server.url)
    photo = visitor.named["mask-photo"]
    visitor.values[photo] = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "a.png"}
    answer = visitor.press("mask-photo", "upload")
    assert answer.error is not None or answer.status != 200
    assert (ROOT / "README.md").exists() and Path("/etc/hostname").exists()


# ---- doors that stay shut --------------------------------------------------------------------------------------------

@pytest.mark.browser
@pytest.mark.parametrize("path, codes", [
    ("/gradio_api/file=/etc/passwd", {403, 404}), (f"/gradio_api/file={ROOT}/app.py", {403, 404}),
    ("/gradio_api/file=../../etc/passwd", {403, 404}), ("/gradio_api/file=http://169.254.169.254/latest", {403, 404}),
    ("/gradio_api/runs", {404}), ("/monitoring", {403, 404}), ("/monitoring/summary", {403, 404}),
    ("/gradio_api/proxy=http://127.0.0.1:9/x", {400, 403, 404})])
def test_no_file_history_monitor_or_proxy_is_served(server, path, codes):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(server.url + path)
    assert refused.value.code in codes


def test_the_doors_are_shut_in_the_code(monkeypatch):
    """What Gradio would open by default, and what nobody should add: foreign apps, share links, raw HTML."""
    import app
    asked = {}
    page = SimpleNamespace(launch=lambda **settings: asked.update(settings))
    app.launch(page, "127.0.0.1", 1)
    off = {"run_history": False, "enable_monitoring": False, "ssr_mode": False, "show_error": False, "pwa": False,
           "strict_cors": True, "allowed_paths": []}
    assert asked.items() >= off.items() and "share" not in asked and asked["state_session_capacity"] <= 200
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    bad = re.compile(r"gr\.load\(|share=True|DeepLinkButton|sanitize_html=False|<script[^>]*src=|cdn\.|innerHTML")
    for path in [ROOT / "app.py", *(ROOT / "visualizers").iterdir()]:
        assert not path.is_file() or not bad.search(path.read_text("utf-8")), path.name


@pytest.mark.browser
def test_too_large_an_upload_is_refused_and_leaves_nothing(server):
    with pytest.raises(urllib.error.HTTPError) as refused:
        upload(server.url, f"{SECRET}-large.png", b"x" * (limits.FILE_BYTES + 1_000_000))
    assert refused.value.code == 413


@pytest.mark.browser
def test_values_that_a_program_sends_are_not_logged(server):
    """A menu refuses what is not in it; the sentence goes to the sender, not to the log."""
    visitor = Visitor(server.url)
    visitor.set("mask-method", f"no-{SECRET}")
    visitor.press("mask-method", "input")
    visitor.set("mask-method", "hpm")
    visitor.set("mask-picker", {"selected": SECRET})
    visitor.press("mask-run")
    assert SECRET not in server.out.read_text()


@pytest.mark.browser
def test_every_tab_asks_its_own_host_only(visit):
    """`visit` fails on any request to another host or port; here everything is opened once."""
    page = visit()
    for tab in TABS:
        open_tab(page, tab)
        page.locator(f"#{tab}-player .ts-token, #{tab}-player .ts-cell, #{tab}-player .ts-place").nth(1).hover()
        for fold in page.locator(".glossary summary:visible, .about summary:visible, .claim summary:visible").all():
            fold.click()
    page.get_by_role("tab", name="All papers").click()
    page.get_by_role("searchbox").fill("mask")
    page.wait_for_timeout(500)
    assert len(page.asked) > 10


@pytest.mark.browser
def test_a_request_to_another_host_would_be_noticed(browser, server):
    """The control of the test above: without our header, which forbids it, the browser tells of such a request."""
    page, asked = browser.new_page(bypass_csp=True), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url)
    page.evaluate("fetch('http://127.0.0.1:9/beacon').catch(() => 0)")
    page.wait_for_timeout(200)
    assert any(url.startswith("http://127.0.0.1:9/") for url in asked)
    page.close()


@pytest.mark.browser
def test_text_boxes_teach_the_browser_nothing(visit):
    page = visit("?tab=prune")
    box = page.locator("#prune-text textarea, #prune-text input").first
    assert box.get_attribute("autocomplete") == "off" and box.get_attribute("spellcheck") == "false"
