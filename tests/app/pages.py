"""Short hands for a visitor's moves on the page."""

import io

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

expect.set_options(timeout=60_000)  # a busy machine is slow, not wrong
TABS = ("mask", "attend", "prune", "unmask", "sample")


def open_tab(page: Page, tab: str) -> None:
    page.get_by_role("tab", name=tab.capitalize(), exact=True).click()
    page.locator(f"#{tab}-player .ts-panel").first.wait_for()


def run(page: Page, tab: str, seed: int | None = None, wait: bool = True) -> None:
    """Sets the seed, presses Run and waits for the live result."""
    if seed is not None:
        box = page.locator(f"#{tab}-seed input")
        box.fill(str(seed))
        box.blur()
    page.locator(f"#{tab}-run").click()
    if wait:
        expect(page.locator(f"#{tab}-strip")).to_contain_text("live", timeout=90_000)
        expect(page.locator(f"#{tab}-run")).to_have_text("Run", timeout=90_000)


def method(page: Page, tab: str, title: str) -> None:
    page.locator(f"#{tab}-method input").click()
    page.get_by_role("option", name=title, exact=True).click()


def step(page: Page, tab: str) -> int:
    return int(page.locator(f"#{tab}-player .ts").get_attribute("data-step"))


def slowest_step(page: Page, tab: str, steps: int) -> float:
    """Milliseconds of the slowest step of the player: each step's best of five, as the machine may be busy."""
    return page.evaluate("""([id, steps]) => {
      const slider = document.querySelector(`#${id}-player input[type=range]`), best = Array(steps).fill(Infinity);
      for (let round = 0; round < 5; round++) for (let i = 0; i < steps; i++) {
        slider.value = i;
        const began = performance.now();
        slider.dispatchEvent(new Event('input', {bubbles: true}));
        best[i] = Math.min(best[i], performance.now() - began); }
      return Math.max(...best); }""", [tab, steps])


def toast(page: Page, words: str) -> None:
    """A sentence appears on the page; its box is closed again."""
    box = page.locator(".toast-body", has_text=words).first
    expect(box).to_be_visible(timeout=60_000)
    box.locator(".toast-close").click(force=True)


def picture(size=(64, 64), form: str = "PNG", mode: str = "RGB", frames: int = 1) -> bytes:
    """A file that holds a noisy picture."""
    rng, out = np.random.default_rng(0), io.BytesIO()
    pixels = rng.integers(0, 255, (frames, size[1], size[0], 3), np.uint8)
    shots = [Image.fromarray(shot).convert(mode) for shot in pixels]
    shots[0].save(out, form, **({"save_all": True, "append_images": shots[1:]} if frames > 1 else {}))
    return out.getvalue()


def bomb(side: int = 12_000) -> bytes:
    """A small file with a huge picture inside."""
    out = io.BytesIO()
    Image.new("1", (side, side)).save(out, "PNG")
    return out.getvalue()
