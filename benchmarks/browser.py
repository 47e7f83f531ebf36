"""How long one pass of a compact model takes in a browser, on one thread, at 128 pixels.

The page computes as the live page does: the shipped model of metal with weights in int8, teacher,
student and segmentation network, in a worker. Needs Chromium and playwright.

Run: ``python benchmarks/browser.py [--runtime DIR] [--json FILE]``, on an idle machine.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from pathlib import Path

import torch
from measuring import command_line, report
from playwright.sync_api import sync_playwright

from destseg_lib.drawn.dataset import ImageCounts, draw_category
from destseg_lib.evaluation.browser import COMPUTING, classic_script, packed_run, part_script
from destseg_lib.runs.shipped import load_pretrained
from destseg_lib.runs.web_runtime import PACKAGE, VERSION, web_runtime

CATEGORY, WEIGHTS, PASSES, ROUNDS = "metal", "int8", 200, 3
TIME = """async ([data, pixels, passes]) => {
  const { ask } = await begin(document.body, data);
  const spent = [];
  for (let n = 0; n < passes; n += 1) {
    spent.push((await ask("look", { name: "model", pixels: new Uint8Array(pixels) })).ms);
  }
  ask.stop();
  return spent;
}"""


def main() -> None:
    parser = command_line(__doc__)
    runtime = "folder with the files of onnxruntime-web (default: fetched from npm, once)"
    parser.add_argument("--runtime", type=Path, help=runtime)
    options = parser.parse_args()
    good = draw_category(CATEGORY, 128, ImageCounts(0, 8, 0), progress=False).test
    run = load_pretrained(CATEGORY, torch.device("cpu"))
    packed = packed_run(run, CATEGORY, good, web_runtime(options.runtime), weights=WEIGHTS)
    parts = "".join(f"<script>{part_script(*part)}</script>" for part in packed.parts.items())
    page = f"<!doctype html>{parts}<script>{classic_script(*COMPUTING)}</script>"
    rounds, load = [], []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        (file := Path(folder) / "page.html").write_text(page, encoding="utf-8")
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(ROUNDS):
            tab = browser.new_page()
            tab.goto(file.as_uri())
            load.append(os.getloadavg()[0])
            spent = tab.evaluate(TIME, [packed.data, good[0].ravel().tolist(), PASSES])
            rounds.append({"median_ms": statistics.median(spent), "minimum_ms": min(spent)})
            tab.close()
        version = browser.version
        browser.close()
    record = {
        "what": f"one pass of the shipped model of {CATEGORY} at 128 pixels, weights in {WEIGHTS}, "
        f"in a worker on one thread: {PASSES} passes in each of {ROUNDS} rounds, the best round",
        "browser": f"Chromium {version}, headless",
        "runtime": f"{PACKAGE} {VERSION}",
        **min(rounds, key=lambda one: one["median_ms"]),
        "rounds": rounds,
        "load_before_each_round": load,
    }
    report(record, options.json)


if __name__ == "__main__":
    main()
