"""The page without a server: what is in the file, and its numbers, keys, links and widths in a real Chromium.

The oracle of its numbers are the fits themselves: `predict`, `interval` and `verdict` at random places. Screenshots for
a person to look at go to the folder that SCALING_LIB_SCREENSHOTS names, else to pytest's temporary folder.
"""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from scaling_lib.cli import main
from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.allocate import compute_optimal
from scaling_lib.fit.estimate import fit_power_law
from scaling_lib.fit.isoflops import isoflop
from scaling_lib.fit.result import FitResult, Verdict
from scaling_lib.runs import Run, shipped
from scaling_lib.show.grids import the_grid
from scaling_lib.show.ladders import find_ladders
from scaling_lib.show.page import published_page, runs_page

Make = Callable[..., Run]
DOCS = Path(__file__).resolve().parents[1] / "docs" / "published.html"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EVIL = "</script><script>document.title='caught'</script><img src=x onerror=document.title='caught'>"
NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"


class Parts(html.parser.HTMLParser):
    """Every element of a page with its attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:  # inside a script or a style
            tag, attributes = self.tags[-1]
            name = f"{tag} {attributes.get('id', '')}".strip()
            self.texts[name] = self.texts.get(name, "") + data


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The pages, by name."""
    return {
        "published": published_page(),
        "laptop": runs_page(shipped("laptop"), "laptop"),
        "v1-to-v2": runs_page(shipped("v1-to-v2"), "v1-to-v2"),
        "uniform-tokens": runs_page(shipped("uniform-tokens"), "uniform-tokens"),
    }


@pytest.fixture(scope="module")
def evil_runs(make_run: Make) -> list[Run]:
    runs = [make_run(d_model=d, steps=100, loss=2 + 40 / d) for d in (16, 32, 48, 64, 96)]
    return [replace(r, corpus={**r.corpus, "name": EVIL}) for r in runs]


# ---- the file


def test_nothing_is_loaded_and_the_policy_names_the_only_script_and_style(texts: dict[str, str]) -> None:
    for text in texts.values():
        parts = Parts(text)
        links = [a[name] or "" for _, a in parts.tags for name in ("src", "href") if name in a]
        assert links
        assert all(link == "#" or link.startswith("data:image/png;base64,") for link in links)
        assert not any(name.startswith("on") or name == "style" for _, attributes in parts.tags for name in attributes)
        policy = next(a["content"] for tag, a in parts.tags if a.get("http-equiv") == "Content-Security-Policy")
        rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
        assert rules["default-src"] == "'none'"
        for tag, rule in (("script", "script-src"), ("style", "style-src")):
            digest = base64.b64encode(hashlib.sha256(parts.texts[tag].encode()).digest()).decode()
            assert rules[rule] == f"'sha256-{digest}'"
        assert len(text) < 1_500_000


def test_names_cannot_become_markup(evil_runs: list[Run]) -> None:
    text = runs_page(evil_runs, EVIL)
    parts = Parts(text)
    assert [tag for tag, _ in parts.tags].count("script") == 2
    assert [tag for tag, _ in parts.tags].count("img") == 1
    assert EVIL in json.loads(parts.texts["script data"])["laws"][0]["text"]


def test_runs_without_a_law_are_refused(make_run: Make) -> None:
    with pytest.raises(InputError, match="no law for a page"):
        runs_page([make_run(d_model=32), make_run(d_model=64)], "two")


def test_the_command_writes_a_file_for_each_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no folder is named published
    assert main(["figures", "published", "--target", "html", "--out", "o"]) == 0
    assert capsys.readouterr().out.split() == ["o/published.html"]
    assert (tmp_path / "o/published.html").read_text(encoding="utf-8") == texts["published"]
    assert main(["figures", "published", "--target", "html", "--format", "svg"]) == 2


def test_the_committed_page_is_what_the_package_makes(texts: dict[str, str]) -> None:
    if not DOCS.exists():
        pytest.skip("docs/published.html is not here, as where the package alone is installed")
    command = "python -m scaling_lib figures published --target html --out docs"
    data, rest = zip(*(_split(text) for text in (DOCS.read_text(encoding="utf-8"), texts["published"])), strict=True)
    assert rest[0] == rest[1], f"made by another version; run {command}"
    assert _close(*data), f"its numbers are others; run {command}"


def _split(text: str) -> tuple[Any, str]:
    """The data of a page, and the rest of it but for the picture, whose bytes differ between machines."""
    data = Parts(text).texts["script data"]
    return json.loads(data), re.sub(r"base64,[^\"]+", "", text.replace(data, "", 1))


def _close(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_close(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_close, a, b))
    if a is None or b is None:
        return a is b
    if isinstance(a, str):
        return re.sub(NUMBER, "0", a) == re.sub(NUMBER, "0", b)
    return bool(np.isclose(a, b, rtol=1e-3, atol=100 if isinstance(a, int) else 1e-6))


# ---- in the browser


@pytest.fixture(scope="module")
def joint() -> FitResult:
    return the_grid(shipped("laptop")).fit


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("SCALING_LIB_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def files(texts: dict[str, str], evil_runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for name, text in {**texts, "evil": runs_page(evil_runs, EVIL)}.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8", newline="\n")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is absent: the page is not opened")
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def open_page(browser: Any, files: Path) -> Iterator[Callable[..., Any]]:
    """Open a page from its file; at the end it must have asked for nothing else, and raised nothing."""
    opened: list[tuple[Any, list[str]]] = []

    def make(name: str, fragment: str = "", **options: Any) -> Any:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        page, noted = context.new_page(), []
        page.on("request", lambda request: noted.append(request.url))
        page.on("pageerror", lambda error: noted.append(str(error)))
        page.on("console", lambda message: noted.append(message.text))
        page.goto(f"file://{files / name}.html#{fragment}")
        if options.get("java_script_enabled", True):
            page.locator("main").wait_for()  # its charts are made after the first paint
        opened.append((context, noted))
        return page

    yield make
    for context, noted in opened:
        context.close()
        assert [n for n in noted if not n.startswith(("file://", "data:image/png"))] == []


def go(page: Any, fragment: str, part: str = "explorer") -> str:
    """Bring the page to a state by its address; returns the words of a part."""
    page.evaluate(
        """(fragment) => {
            history.replaceState(null, "", "#" + fragment);
            dispatchEvent(new HashChangeEvent("hashchange"));
        }""",
        fragment,
    )
    return words_of(page, part)


def places(seed: int, *ends: tuple[float, float]) -> list[tuple[float, ...]]:
    """Fifty random places, uniform in the logarithm between each pair of ends; six digits, which an address keeps."""
    low, high = np.log10(np.array(ends)).T
    u = np.random.default_rng(seed).random((50, len(ends)))
    return [tuple(float(f"{v:.6g}") for v in row) for row in 10 ** (low + u * (high - low))]


def words_of(page: Any, part: str = "explorer") -> str:
    return str(page.locator(f"#{part}-words").inner_text())


def check_said(text: str, loss: float, law: Any, new_run: Any, said: Verdict) -> None:
    """Words on the page against a prediction, the interval of the law, that of a new run, and a verdict."""
    reasons = "; ".join(said.reasons)
    told = text.split(f"{said.level}. ", 1)[1] if reasons else ""
    if said.refused:
        assert "nats per token" not in text
        assert f"No prediction: {said.level}." in text
    else:
        assert f"Verdict: {said.level}." in text
        found = re.search(rf"({NUMBER}) nats per token", text)
        assert found
        assert float(found[1]) == pytest.approx(loss, abs=8e-4)
        ends = [tuple(map(float, m)) for m in re.findall(rf"90% \[({NUMBER}), ({NUMBER})\]", text)]
        wanted = [x for x in (law, new_run) if x is not None]
        assert len(ends) == len(wanted)
        for shown, true in zip(ends, wanted, strict=True):
            assert shown == pytest.approx(true, abs=1.5e-3)
    # The reasons in the same words; numbers were rounded after a table was read.
    assert re.sub(NUMBER, "0", told).strip(". ").lower() == re.sub(NUMBER, "0", reasons).strip(". ").lower()
    numbers = [[float(v) for v in re.findall(NUMBER, t)] for t in (told, reasons)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.02, abs=1.01)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is absent: the page is not opened in a browser")
class TestInBrowser:
    def test_a_pooled_joint_law_says_what_the_fit_says_at_50_places(
        self, open_page: Callable[..., Any], joint: FitResult
    ) -> None:
        page, levels, untried = open_page("laptop"), set(), 0
        # Far and wide; and a little beyond the largest run, where a claim reaches further than the hold-out tried it.
        for n, d in [*places(0, (8e3, 4e8), (4e5, 1e9)), *places(3, (4e6, 2e7), (6e7, 4e8))[:8]]:
            text, said = go(page, f"law=wsd-joint&N={n}&D={d}"), joint.verdict(n, d)
            new_run = joint.interval(n, d, kind="new_run")
            check_said(text, joint.predict(n, d), joint.interval(n, d), new_run, said)
            levels.add(said.level)
            untried += any("times only" in reason for reason in said.reasons)
        assert untried
        assert len(levels) > 1  # some are refused, some not

    @pytest.mark.parametrize("name", ["pythia", "cerebras-gpt"])
    def test_a_pooled_ladder_does_too(self, open_page: Callable[..., Any], name: str) -> None:
        table = published.pythia() if name == "pythia" else published.cerebras_gpt()
        assert table.n_params is not None
        fit, page = fit_power_law(table.n_params, table.loss, labels=table.labels), open_page("published")
        for (n,) in places(1, (3.5e7, 2e13)):
            check_said(
                go(page, f"law={name}&N={n}"), fit.predict(n), fit.interval(n), fit.interval(n, kind="new_run"),
                fit.verdict(n),
            )  # fmt: skip

    @pytest.mark.parametrize("name", ["chinchilla-epoch", "kaplan-joint"])
    def test_a_published_law_is_its_closed_form_and_ends_where_it_is_out_of_range(
        self, open_page: Callable[..., Any], name: str
    ) -> None:
        law, page, outside = published.laws[name], open_page("published"), 0
        for n, d in places(2, (3e7, 3e13), (2e9, 3e14)):
            text = go(page, f"law={name}&N={n}&D={d}")
            if law.beyond({"N": n, "D": d}):
                assert "No prediction: out of range." in text
                assert "nats per token" not in text
                outside += 1
                continue
            own = text.split("Verdict: published. ")[1].strip(". ")
            assert law.corpus in own
            mean = None if law.cov is None else law.interval(n, d)
            check_said(text, law.predict(n, d), mean, None, Verdict("published", (own,)))
        assert 0 < outside < 50

    def test_a_flat_ladder_has_no_prediction_anywhere(self, open_page: Callable[..., Any]) -> None:
        page = open_page("uniform-tokens", "law=v2-N")
        assert "No prediction: no trend." in words_of(page)
        for part in ("law", "below", "beyond"):
            assert page.evaluate(f"explorer.charts.N.parts.get('{part}').getAttribute('d')") == ""

    def test_the_law_is_drawn_to_where_its_verdict_refuses(
        self, open_page: Callable[..., Any], joint: FitResult
    ) -> None:
        page = open_page("laptop", "far=1")
        ends = page.evaluate(
            """() => { const c = explorer.charts.N, d = c.parts.get("beyond").getAttribute("d");
            const x = Number(d.split("L").at(-1).split(" ")[0]), { low, high } = c.axisX;
            return low * (high / low) ** ((x - c.left) / (c.right - c.left)); }"""
        )
        d = joint.fit_range["D"][1]
        assert not joint.verdict(0.98 * ends, d).refused
        assert joint.verdict(1.02 * ends, d).refused

    def test_a_budget_is_spent_as_compute_optimal_does(self, open_page: Callable[..., Any]) -> None:
        page, law = open_page("published"), published.laws["chinchilla-epoch"]
        page.locator("#C").focus()
        for key in ("PageUp", "ArrowLeft", "Home", "End"):
            page.keyboard.press(key)
            n, d = page.evaluate("[state.N, state.D]")
            best = compute_optimal(law, 6 * n * d, judge=False)
            assert (n, d) == pytest.approx((best.n_params, best.n_tokens), rel=1e-4)
            said, shown = page.locator("#C-said").inner_text(), page.evaluate("6 * state.N * state.D")
            assert float(said) == pytest.approx(shown, rel=6e-3)  # the label tells the value that is set

    def test_every_ladder_reaches_its_best_fit_and_the_best_for_a_floor(self, open_page: Callable[..., Any]) -> None:
        page, ladders = open_page("v1-to-v2"), find_ladders(shipped("v1-to-v2"))
        assert len(ladders) == 6
        for ladder in ladders:
            fit = ladder.fit
            assert fit is not None
            go(page, f"ladder={ladder.recipe}-{ladder.variable}", "hand")
            page.locator("#best").click()
            assert "this is the best fit" in words_of(page, "hand")
            assert page.evaluate("[state.E, state.a]") == pytest.approx([fit.values[0], fit.values[2]], rel=1e-9)
            floor = 0.6 * float(ladder.loss.min())
            go(page, f"ladder={ladder.recipe}-{ladder.variable}&E={floor}", "hand")
            page.locator("#rest").click()
            rest = fit_power_law(ladder.x, ladder.loss, variable=ladder.variable, floor=floor)
            found = page.evaluate("handObjective(hand.data, state)")
            assert found == pytest.approx(rest.cost, rel=1e-3)

    def test_the_lab_finds_what_isoflop_finds(self, open_page: Callable[..., Any]) -> None:
        page, law = open_page("published"), published.laws["chinchilla-epoch"]
        budgets = np.logspace(17, 21, 5)
        true = np.asarray(compute_optimal(law, np.append(budgets, 1e24), judge=False).n_params)
        rng = np.random.default_rng(3)
        for k in range(20):
            w, o, g, s = rng.uniform(1.6, 20), rng.uniform(-2, 2), rng.uniform(-0.5, 0.5), (k % 4) * 0.2
            w, o, g = (float(f"{v:.6g}") for v in (w, o, g))
            text = go(page, f"w={w}&o={o}&g={g}&s={s}&draw={k + 1}", "lab")
            noise = np.reshape(page.evaluate(f"normals({k + 1}, 75)"), (5, 15))
            n = (true[:5] * 2 ** (o + g * (np.log10(budgets) - 19)))[:, None] * np.geomspace(1 / w, w, 15)
            c = np.broadcast_to(budgets[:, None], n.shape)
            loss = law.predict(n, c / (6 * n)) * np.exp(noise * s / 100)
            try:
                found = isoflop(n.ravel(), c.ravel(), loss.ravel(), window=np.inf)  # all sizes: it shows the bias
            except InputError:
                assert "No exponent" in text
                continue
            shown = re.search(rf"C({NUMBER}); the truth", text)
            error = re.search(r"D\* = \S+ \(([+−])([0-9.]+)%\)", text)
            assert shown
            assert error
            assert float(shown[1]) == pytest.approx(found.a, abs=6e-4)
            true_error = 100 * (found.optimal(1e24)[1] * 6 * true[5] / 1e24 - 1)
            assert float(error[1].replace("−", "-") + error[2]) == pytest.approx(true_error, abs=0.1)
            assert len(re.findall(r"1\.00e\d\d", text)) == sum(f != "ok" for f in found.flags)

    def test_keys_fingers_and_menus_move_it(self, open_page: Callable[..., Any]) -> None:
        page = open_page("published", has_touch=True, viewport={"width": 390, "height": 800})
        page.locator("#N").focus()
        page.keyboard.press("ArrowRight")
        assert 1.01 < page.evaluate("state.N") / 16e9 < 1.05
        page.keyboard.press("End")
        assert page.locator("#N-said").inner_text() == "31.6T"  # 10^13.5, the end itself
        page.locator("#model").select_option(label="Llama 3 405B")
        assert words_of(page).startswith("N = 405B parameters, D = 15.6T tokens")
        chart = page.locator("#along-N svg")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        page.touchscreen.tap(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
        assert 1e10 < page.evaluate("state.N") < 1e11

    def test_a_link_brings_back_what_was_shown(self, open_page: Callable[..., Any]) -> None:
        page = open_page("laptop")
        page.locator("#law").select_option(index=1)
        for id_, key in (("N", "PageDown"), ("E", "ArrowLeft"), ("w", "PageUp"), ("s", "PageUp")):
            page.locator(f"#{id_}").focus()
            page.keyboard.press(key)
        page.locator("#draw").click()
        page.wait_for_timeout(400)
        shown = [words_of(page, part) for part in ("explorer", "hand", "lab")]
        fragment = page.evaluate("location.hash").removeprefix("#")
        assert fragment
        again = open_page("laptop", fragment)
        assert [words_of(again, part) for part in ("explorer", "hand", "lab")] == shown
        assert f'laptop.html#{fragment}"' in again.locator("#frame").input_value()

    @pytest.mark.parametrize(
        "fragment", ["N=nonsense&law=none&w=-1", "N=1e99&D=1e-9&E=1e9&a=-5", quote(EVIL), "N=&s=Infinity&draw=0.5"]
    )
    def test_a_strange_address_opens_the_page(self, open_page: Callable[..., Any], fragment: str) -> None:
        page = open_page("published", fragment)
        assert "nats per token" in words_of(page) or "No prediction" in words_of(page)
        assert "NaN" not in page.locator("main").inner_text()

    def test_a_name_like_a_script_is_only_read(self, open_page: Callable[..., Any]) -> None:
        page = open_page("evil")
        assert page.title() == f"Scaling laws of {EVIL}"
        assert all(EVIL in page.locator(where).inner_text() for where in ("#text", "h1"))

    def test_another_script_does_not_run(self, open_page: Callable[..., Any], files: Path) -> None:
        added = "<script>document.title = 'caught'</script></body>"
        text = (files / "published.html").read_text(encoding="utf-8").replace("</body>", added)
        (files / "added.html").write_text(text, encoding="utf-8", newline="\n")
        page = open_page("published")  # whose console stays empty; the other one's says what was refused
        other = page.context.new_page()
        other.goto(f"file://{files / 'added.html'}")
        assert other.title() == "Published scaling laws"

    @pytest.mark.parametrize("name", ["published", "laptop", "v1-to-v2"])
    def test_no_width_cuts_it_off(self, open_page: Callable[..., Any], shots: Path, name: str) -> None:
        for width, scheme in ((360, "light"), (768, "dark"), (1280, "light"), (1920, "dark")):
            page = open_page(name, viewport={"width": width, "height": 900}, color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, re.findall(r"\d+", paper)[:3])) < 200) == (scheme == "dark")
            page.screenshot(path=shots / f"page-{name}-{width}.png", full_page=True)

    def test_without_scripts_there_is_a_picture(self, open_page: Callable[..., Any], shots: Path) -> None:
        page = open_page("published", java_script_enabled=False)
        assert page.locator("noscript img").is_visible()
        assert not page.locator("main").is_visible()
        page.screenshot(path=shots / "page-still.png")

    def test_it_lives_in_a_frame(self, open_page: Callable[..., Any], files: Path) -> None:
        page = open_page("published", "law=kaplan-joint")
        snippet = page.locator("#frame").input_value()
        (files / "post.html").write_text(f"<!doctype html><p>A post</p>{snippet}", encoding="utf-8")
        page.goto(f"file://{files / 'post.html'}")
        frame = page.frame_locator("iframe")
        frame.locator("main").wait_for()
        assert "WebText2" in frame.locator("#text").inner_text()
        assert "nats per token" in frame.locator("#explorer-words").inner_text()
