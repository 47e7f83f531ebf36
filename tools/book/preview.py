"""Build one page of the book and check it as the tests do: `make page PAGE=book/NAME`.

It prints what is wrong with the page and leaves pictures of it: at a desk, on a telephone, in the
dark. Links to other pages are not followed here; the whole build does that.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.browser import checks  # noqa: E402
from tests.browser.conftest import NAMES, serve  # noqa: E402

VIEWS = ("desk", "desk-dark", "telephone", "telephone-dark")


def build(page: str, out: Path) -> Path:
    """Build the page into ``out`` with a table of contents of its own; the folder of its HTML."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "_build" / ".jupyter_cache", ignore_errors=True)  # of another day's library
    toc = out / "_toc.yml"
    toc.write_text(yaml.safe_dump({"format": "jb-book", "root": page}), encoding="utf-8")
    command = [
        str(Path(sys.executable).with_name("jupyter-book")), "build", str(ROOT),
        "--toc", str(toc), "--path-output", str(out), "--all", "--keep-going",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return out / "_build" / "html"


def look(html: Path, page: str, out: Path) -> list[str]:
    """What the browser tests find wrong with a page; its pictures go into ``out``."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if not program:
        return ["there is no Chromium here, so the page was not checked"]
    server = serve(html)  # axe-core reads style sheets, which a browser does not let it from disk
    root = f"http://127.0.0.1:{server.server_port}/"
    axe = ROOT / "_vendor" / "axe.min.js"
    found = [f"a cell failed: {log}" for log in html.rglob("*.err.log")]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name in VIEWS:
            narrow, dark = name.startswith("telephone"), name.endswith("dark")
            address = f"{root}{page}.html"
            with checks.visit(browser, address, root, narrow=narrow, dark=dark) as seen:
                seen.page.screenshot(path=out / f"{name}.png", full_page=True)
                wrong = checks.fits(seen.page) + checks.accessible(seen.page, axe)
                if name == "desk":
                    wrong += checks.described(seen.page) + checks.answers(seen.page)
                    wrong += checks.quiet(seen) + checks.light_enough(seen, html, root)
                if dark:
                    wrong += checks.dark_enough(seen.page)
                found += [f"{name}: {line}" for line in wrong]
        browser.close()
    server.shutdown()
    return found


def main() -> None:
    """Build and check."""
    if len(sys.argv) != 2:
        sys.exit("Give one page, as in: make page PAGE=book/02_measuring")
    page = Path(sys.argv[1]).with_suffix("").as_posix()
    out = ROOT / "_build" / "preview" / Path(page).name
    html = build(page, out)
    found = look(html, page, out)
    print("\n".join(found) or "Nothing is wrong with it.")
    print(f"The page: {(html / page).relative_to(ROOT)}.html; pictures: {out.relative_to(ROOT)}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
