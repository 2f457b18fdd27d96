"""Panels in a real browser: notebook 6 served by Voila, its first panel in JupyterLab, and the game of notebook 7.

Needs Chromium and ``pip install -c constraints.txt -e ".[notebooks,browser]"``. Screenshots for a person to look at go
to the folder that SCALING_LIB_SCREENSHOTS names, else to pytest's temporary folder.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from PIL import Image

from scaling_lib.fit import published
from scaling_lib.lab import open_lab
from scaling_lib.runs import shipped
from scaling_lib.show.sliders.sources import JointLaw, our_source, published_source

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is absent: no page is opened in a browser")
pytest.importorskip("voila", reason="Voila is absent: the page of sliders is not served")
pytest.importorskip("jupyterlab", reason="JupyterLab is absent: no notebook is run in it")

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "06_extrapolation_sliders.ipynb"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 240_000  # milliseconds: on a busy machine a kernel starts slowly; nothing here asserts a time
SUFFIX = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
WIDGET = "application/vnd.jupyter.widget-view+json"
COMPUTE = "compute C = 6ND (FLOPs)"
PANELS, IMAGES = 5, 9  # two explorers, the law by hand, the lab: two images each; the planner: one

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is absent: no page is opened in a browser"),
]


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for screenshots."""
    named = os.environ.get("SCALING_LIB_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is served: notebook 6, whole for Voila and up to its first panel for Lab, and a game of its own."""
    made = tmp_path_factory.mktemp("served")
    shutil.copy(NOTEBOOK, made / "whole.ipynb")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    first = next(i for i, cell in enumerate(notebook.cells) if cell.source.startswith("explorer ="))
    notebook.cells = notebook.cells[: first + 2]  # and its still
    nbformat.write(notebook, made / "lab.ipynb")
    cell = nbformat.v4.new_code_cell(
        "from scaling_lib.lab import open_lab\nfrom scaling_lib.show.sliders import BudgetLab\n"
        f"BudgetLab(open_lab({str(made / 'game')!r}, 'gemstones'))"
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), made / "game.ipynb")
    return made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[dict[str, str]]:
    """The addresses of a Voila and a JupyterLab of ours on free ports of this machine; both start at once."""
    own = tmp_path_factory.mktemp("jupyter")  # no setting of the user's, and none left behind
    env = os.environ | {name: str(own) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    started: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
    for module, options in {
        "voila": ["--Voila.ip=127.0.0.1", "--show_tracebacks=True", str(folder)],
        "jupyterlab": [
            "--ip=127.0.0.1", "--IdentityProvider.token=a-test", "--allow-root",
            "--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={folder}",
        ],
    }.items():  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", module, "--no-browser", f"--port={port}", *options]
        with (own / f"{module}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
        started[module] = process, port
    give_up = time.monotonic() + PATIENCE / 1000
    for module, (process, port) in started.items():
        while not answers(port):
            if process.poll() is not None or time.monotonic() > give_up:
                pytest.fail(f"{module} does not answer:\n{(own / f'{module}.log').read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
    yield {module: f"http://127.0.0.1:{port}" for module, (_, port) in started.items()}
    for process, _ in started.values():
        os.killpg(process.pid, signal.SIGTERM)
    for process, _ in started.values():
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


def opened(browser: Any, address: str, images: int) -> Any:
    """A page of Voila's or Lab's, once its panels are there."""
    made = browser.new_page(viewport={"width": 1280, "height": 1000})
    made.set_default_timeout(PATIENCE)
    made.errors = []
    made.on("pageerror", lambda error: made.errors.append(str(error)))
    made.goto(address)
    sync_api.expect(made.locator("img.widget-image")).to_have_count(images, timeout=PATIENCE)
    return made


@pytest.fixture(scope="module")
def page(served: dict[str, str], browser: Any) -> Iterator[Any]:
    """The notebook as Voila serves it, once all its panels are there."""
    made = opened(browser, f"{served['voila']}/voila/render/whole.ipynb", IMAGES)
    made.wait_for_function("[...document.querySelectorAll('img')].every(i => i.complete && i.naturalWidth > 0)")
    yield made
    made.close()


@pytest.fixture(scope="module")
def mine() -> JointLaw:
    return our_source(shipped("laptop"))


class Shown:
    """One panel of the page."""

    def __init__(self, page: Any, place: int) -> None:
        self.page = page
        self.box = page.locator(".scaling-lib-panel").nth(place)

    @property
    def words(self) -> str:
        return str(self.box.locator(".widget-html-content").last.inner_text())

    def handle(self, name: str) -> Any:
        row = self.box.locator(".widget-slider", has=self.page.get_by_text(name, exact=True))
        return row.locator(".noUi-handle[role=slider]")

    def disabled(self, name: str) -> bool:
        target = self.handle(name).locator("xpath=ancestor::div[contains(@class, 'noUi-target')]")
        return target.get_attribute("disabled") is not None

    def button(self, name: str) -> Any:
        return self.box.get_by_role("button", name=name)

    def menu(self, place: int) -> Any:
        return self.box.locator("select").nth(place)

    def after(self, do: Callable[[], Any]) -> str:
        """The words once they have changed by what is done."""
        before = self.words
        do()
        sync_api.expect(self.box.locator(".widget-html-content").last).not_to_have_text(
            before, timeout=PATIENCE / 4, use_inner_text=True
        )
        text = ""
        while text != (text := self.words):  # until the browser has reported back, if it does
            self.page.wait_for_timeout(300)
        return text

    def press(self, name: str, key: str) -> str:
        handle = self.handle(name)
        handle.focus()
        return self.after(lambda: handle.press(key))

    def pixels(self) -> np.ndarray:
        parts = []
        for image in self.box.locator("img.widget-image").all():
            data = image.evaluate(
                "async i => { const bytes = new Uint8Array(await (await fetch(i.src)).arrayBuffer());"
                "return btoa(Array.from(bytes, b => String.fromCharCode(b)).join('')) }"
            )
            parts.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), dtype=int))
        return np.hstack(parts)


def count(text: str, name: str) -> float:
    """What the words say of N, D or C: ``N = 175B`` is 1.75e11."""
    found = re.search(rf"\b{name} = ([0-9.e+]+)([kMBT]?)\b", text)
    assert found, text
    return float(found[1]) * SUFFIX.get(found[2], 1.0)


def loss(text: str) -> float:
    found = re.search(r"([0-9.]+) nats per token", text)
    assert found, text
    return float(found[1])


def differing(a: np.ndarray, b: np.ndarray) -> float:
    """The share of pixels that differ visibly."""
    return float((np.abs(a - b).max(axis=2) > 30).mean())


# ---- Voila


def test_every_panel_is_there_with_its_picture_in_its_own_size(page, shots):
    assert page.errors == []
    assert page.get_by_text("javascript error").count() == 0
    assert page.get_by_text("Traceback").count() == 0
    sizes = page.evaluate(
        "[...document.querySelectorAll('img')]"
        ".map(i => [[i.naturalWidth, i.naturalHeight], [i.clientWidth, i.clientHeight]])"
    )
    assert len(sizes) == IMAGES + 5  # and the figures that stand still
    for natural, shown in sizes:
        assert natural == shown
    for place in range(PANELS):
        Shown(page, place).box.screenshot(path=shots / f"voila-{place}.png")


def test_a_key_moves_our_law_and_the_number_the_picture_and_the_verdict_are_the_fits(page, mine, shots):
    ours = Shown(page, 1)
    before, first = ours.pixels(), ours.words
    assert loss(first) == pytest.approx(mine.law.predict(mine.n_range[1], mine.d_range[1]), abs=6e-4)
    text = ours.press("parameters N", "ArrowRight")
    n, d = count(text, "N"), count(text, "D")
    assert 1.02 < n / mine.n_range[1] < 1.08
    assert d == pytest.approx(mine.d_range[1], rel=0.005)
    assert loss(text) == pytest.approx(mine.law.predict(n, d), abs=1e-3)
    low, high = mine.law.interval(n, d, kind="new_run")
    quoted = re.search(r"new run ([0-9]+\.[0-9]+) to ([0-9]+\.[0-9]+)", text)
    assert quoted
    assert [float(v) for v in quoted.groups()] == pytest.approx([low, high], abs=2e-3)
    moved = ours.pixels()
    assert differing(before, moved) > 5e-4
    from scaling_lib.show.sliders import Explorer

    twin = Explorer([mine])
    twin.n.value = n
    drawn = np.hstack([np.asarray(Image.open(io.BytesIO(i.value)), dtype=int) for i in twin.canvas.images])
    assert differing(drawn, moved) < 2e-3  # N is quoted to three digits, which moves the diamond by a part of a pixel
    assert f"Verdict: {mine.law.verdict(n, d).level}" in text

    text = ours.press("parameters N", "End")
    assert mine.law.verdict(count(text, "N"), d).refused
    assert f"No prediction: {mine.law.verdict(count(text, 'N'), d).level}" in text
    assert "nats per token" not in text
    ours.box.screenshot(path=shots / "voila-refused.png")
    assert ours.after(ours.button("reset").click) == first
    assert differing(before, ours.pixels()) == 0


def test_a_known_model_is_met_exactly_and_stays(page, shots):
    explorer, law = Shown(page, 0), published.laws["chinchilla-epoch"]
    explorer.after(explorer.button("reset").click)
    text = explorer.after(lambda: explorer.menu(2).select_option(label="Llama 3 405B"))
    assert (count(text, "N"), count(text, "D")) == (405e9, 15.6e12)
    assert f"{15.6e12 / 405e9:.3g} tokens per parameter" in text  # not of the step of the slider next to it
    assert loss(text) == pytest.approx(law.predict(405e9, 15.6e12), abs=6e-4)
    text = explorer.after(lambda: explorer.menu(1).select_option(label="50%"))
    assert "50% interval" in text
    assert count(text, "N") == 405e9
    text = explorer.press("training tokens D", "ArrowLeft")
    assert 13e12 < count(text, "D") < 15.6e12
    assert explorer.menu(2).input_value() == "go to a known model ..."
    explorer.box.screenshot(path=shots / "voila-llama.png")


def test_another_law_has_its_own_panel_and_a_budget_is_spent_as_it_says(page, shots):
    explorer = Shown(page, 0)
    kaplan = published_source("kaplan-joint")
    text = explorer.after(lambda: explorer.menu(0).select_option(label=kaplan.title))
    assert (count(text, "N"), count(text, "D")) == (kaplan.n_range[1], kaplan.d_range[1])  # no report of the old ends
    assert "no interval can be given" in text
    explorer.after(explorer.button("a budget, spent best").click)
    assert [explorer.disabled(name) for name in ("parameters N", "training tokens D", COMPUTE)] == [True, True, False]
    text = explorer.press(COMPUTE, "PageUp")
    n, d = count(text, "N"), count(text, "D")
    assert 6 * n * d == pytest.approx(count(text, "C"), rel=0.01)
    assert loss(text) == pytest.approx(kaplan.law.predict(n, d), abs=2e-3)
    explorer.box.screenshot(path=shots / "voila-kaplan.png")
    explorer.after(lambda: explorer.menu(0).select_option(index=0))
    assert [explorer.disabled(name) for name in ("parameters N", "training tokens D", COMPUTE)] == [False, False, True]


def test_every_slider_changes_the_words_and_the_picture(page):
    tried = 0
    for place in range(PANELS):
        panel = Shown(page, place)
        for name in panel.box.locator(".widget-slider .widget-label").all_inner_texts():
            if name.startswith("compute") and place < 2:
                continue  # an explorer's budget moves only in its own mode
            before = panel.pixels()
            panel.press(name, "PageUp")
            if not name.startswith("price"):  # the price changes what the same hours cost, and not what they buy
                assert differing(before, panel.pixels()) > 0, name
            tried += 1
    assert tried == 2 + 2 + 3 + 4 + 4


def test_a_slider_follows_the_mouse_while_it_is_held(page, shots):
    hand = Shown(page, 2)
    hand.press("floor E (nats per token)", "PageDown")
    hand.after(hand.button("reset").click)
    handle = hand.handle("floor E (nats per token)")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    first = hand.after(lambda: page.mouse.move(x - 60, y, steps=4))
    second = hand.after(lambda: page.mouse.move(x - 120, y, steps=4))
    page.mouse.up()
    floors = [float(re.search(r"L = ([0-9.]+)", text)[1]) for text in (first, second)]
    assert floors[0] > floors[1] > 0
    hand.box.screenshot(path=shots / "voila-by-hand.png")


# ---- the budget lab


def test_a_game_is_played_by_its_buttons_and_the_ledger_on_disk_says_the_same(served, browser, shots, folder):
    names = [f"{model}-{d}B" for model in ("256x23", "512x12", "768x45") for d in (10, 20, 40)]
    page = opened(browser, f"{served['voila']}/voila/render/game.ipynb", images=2)
    panel, shelf = Shown(page, 0), page.locator("select[multiple]")
    assert panel.button("buy").is_disabled()
    labels = shelf.locator("option").all_text_contents()
    chosen = [label for label in labels if label.partition(":")[0] in names]
    assert len(chosen) == len(names)
    shelf.select_option(label=chosen)
    before = panel.pixels()
    text = panel.after(panel.button("buy").click)
    assert differing(before, panel.pixels()) > 5e-4
    lab = open_lab(folder / "game")
    assert sorted(lab.losses) == sorted(names)
    hero = lab.shop.find(panel.menu(0).input_value().partition(":")[0], "heroes")
    low, high = lab.fit().interval(hero.n, hero.d, kind="new_run")
    assert f"{low:.3f} to {high:.3f}" in text
    panel.button("take the fit's").click()
    assert "Sealed" in panel.after(panel.button("seal").click)
    assert panel.button("buy").is_disabled()
    text = panel.after(panel.button("run the hero").click)
    assert f"The hero's loss is {open_lab(folder / 'game').hero():.3f}" in text
    panel.box.screenshot(path=shots / "budget-lab.png")
    page.close()


# ---- JupyterLab


def test_notebook_6_runs_in_jupyterlab_and_its_panel_takes_keys(served, browser, shots):
    page = opened(browser, f"{served['jupyterlab']}/lab/tree/lab.ipynb?token=a-test", images=0)
    page.wait_for_function("window.jupyterapp && jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel")
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.ready")
    page.wait_for_function(
        "jupyterapp.shell.currentWidget.sessionContext.session.kernel.connectionStatus === 'connected'"
    )
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    everything = page.evaluate("jupyterapp.shell.currentWidget.content.widgets.map(c => c.model.sharedModel.toJSON())")
    cells = [cell for cell in everything if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert sum(WIDGET in output.get("data", {}) for output in outputs) == 1
    page.evaluate(f"jupyterapp.shell.currentWidget.content.scrollToItem({len(everything) - 1}, 'start')")
    page.locator("img.widget-image").first.wait_for()
    shown = Shown(page, 0)
    before = shown.pixels()
    still = "jupyterapp.shell.currentWidget.content.widgets.at(-1).model.sharedModel.toJSON().outputs"
    still += ".some((output) => 'image/png' in output.data)"
    assert page.evaluate(still)
    text = shown.press("parameters N", "ArrowRight")
    page.wait_for_function(f"!{still}")  # it would no longer say what the panel says
    law = published.laws["chinchilla-epoch"]
    assert loss(text) == pytest.approx(law.predict(count(text, "N"), count(text, "D")), abs=1e-3)
    assert differing(before, shown.pixels()) > 5e-4
    page.screenshot(path=shots / "lab.png")
    page.close()
