"""How large a page of `figures --target html` is, when it is first painted, and how long a slider's move takes.

python benchmarks/bench_page.py             # a minute; needs Chromium and the extra `browser`
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from scaling_lib.runs import shipped
from scaling_lib.show.page import published_page, runs_page

OPENED, MOVED = 7, 40
EMPTY = "<!doctype html><title>an empty page</title><p>Nothing."
PAINT = """() => new Promise((done) => {
  const find = (list) => list.getEntriesByName("first-contentful-paint").forEach((entry) => done(entry.startTime));
  new PerformanceObserver(find).observe({ type: "paint", buffered: true });
})"""
# When the charts, which are made after the first paint, have been painted too.
DRAWN = """async () => {
  const main = document.querySelector("main"), frame = () => new Promise(requestAnimationFrame);
  while (main?.hidden) await frame();
  await frame();
  return performance.now();
}"""
# From the event of a slider to the new page laid out: what a frame must hold before it can be painted.
MOVE = """([id, moves]) => {
  const input = document.getElementById(id), [low, high] = [Number(input.min), Number(input.max)], times = [];
  for (let i = 0; i < moves; i++) {
    input.value = low + ((high - low) * (i + 0.5)) / moves;
    const began = performance.now();
    input.dispatchEvent(new Event("input"));
    document.body.getBoundingClientRect();
    times.push(performance.now() - began);
  }
  return times;
}"""


def busy(session: Any) -> float:
    """Processor time of the page's main thread so far, milliseconds: what other work on the machine does not change."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return 1e3 * float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))


def opened(browser: Any, path: Path) -> tuple[Any, Any, float, float, float]:
    """A page with its session; the times of its first paint and of its charts; the processor's time until then."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(f"file://{path}")
    paint, drawn = page.evaluate(PAINT), page.evaluate(DRAWN)
    return page, session, paint, drawn, busy(session)


def main() -> None:
    texts = {"published": published_page()}
    texts |= {name: runs_page(shipped(name), name) for name in ("laptop", "v1-to-v2")} | {"(empty)": EMPTY}
    print(
        "| page | size | first paint | its charts | of the processor | explorer | by hand | lab |\n" + 8 * "|---" + "|"
    )
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, text in texts.items():
            path = Path(folder) / f"{name}.html"
            path.write_text(text, encoding="utf-8", newline="\n")
            openings = []
            for i in range(OPENED):
                page, session, *times = opened(browser, path)
                openings.append(times)
                if i + 1 < OPENED:  # a reader opens one page: those before it would draw beside it
                    page.context.close()
            paint, drawn, spent = map(statistics.median, zip(*openings, strict=True))
            row = [name, f"{path.stat().st_size / 1e3:.0f} kB", *(f"{time:.0f} ms" for time in (paint, drawn, spent))]
            for slider in ("N", "a", "o") if text is not EMPTY else ():
                before = busy(session)
                wall = statistics.median(page.evaluate(MOVE, [slider, MOVED]))
                row.append(f"{wall:.1f} ms, {(busy(session) - before) / MOVED:.1f} of the processor")
            print(f"| {' | '.join(row)} |", flush=True)
            page.context.close()


if __name__ == "__main__":
    main()
