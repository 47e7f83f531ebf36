"""Fetch the JavaScript that the built pages load, so that they ask no other host for anything.

Names, versions and hashes are in vendor.lock.json, those of ONNX Runtime Web in the library. What
is fetched goes into _vendor, which is not committed. The npm client comes with the Node wheel among
the book's dependencies.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import sys
import tarfile
import tempfile
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from destseg_lib.errors import DeSTSegError
from destseg_lib.runs.web_runtime import FILES, VERSION, fetch_web_runtime, npm_pack

ROOT = Path(__file__).resolve().parents[2]
LOCK = Path(__file__).with_name("vendor.lock.json")
VENDOR = ROOT / "_vendor"

# Paths inside a package and where they go in _vendor; what only the tests use is not in static.
WANTED = {
    "requirejs": {"require.js": "require.js"},
    "@jupyter-widgets/html-manager": {"dist/embed-amd.js": "static/widgets/manager.js"},
    "mathjax": {
        "LICENSE": "static/mathjax/LICENSE",
        "es5/startup.js": "static/mathjax/startup.js",
        "es5/core.js": "static/mathjax/core.js",
        "es5/input/tex.js": "static/mathjax/input/tex.js",
        "es5/input/tex/extensions": "static/mathjax/input/tex/extensions",
        "es5/output/chtml.js": "static/mathjax/output/chtml.js",
        "es5/output/chtml/fonts": "static/mathjax/output/chtml/fonts",
        "es5/a11y/assistive-mml.js": "static/mathjax/a11y/assistive-mml.js",
    },
    "reveal.js": {
        "LICENSE": "static/reveal/LICENSE",
        "dist/reveal.js": "static/reveal/reveal.js",
        "dist/reveal.css": "static/reveal/reveal.css",
        "dist/reset.css": "static/reveal/reset.css",
        "dist/plugin/notes.js": "static/reveal/notes.js",
    },
    "axe-core": {"axe.min.js": "axe.min.js"},
}

# The icons of the theme that the pages show. The theme's own file holds two thousand of them.
ICONS = """angle-left angle-right arrow-up arrow-right arrow-left bars book bookmark caret-down
    caret-right check chevron-down chevron-left chevron-right chevron-up circle-half-stroke
    circle-info circle-exclamation circle-check circle-question copy download exclamation expand
    eye file file-pdf file-lines github hand-point-right language lightbulb link list
    magnifying-glass moon outdent pencil play plus minus print rocket sun triangle-exclamation
    xmark"""

# The widget manager declares icon fonts that no page here uses; a browser that meets the theme's
# icons before their script has run would ask for them in vain.
FONT_FACES = re.compile(r'@font-face\{font-family:"Font Awesome 5(?:\$\{[^}]*\}|[^}$])*\}')

# A page with widgets would weigh 3.6 MB for their manager alone. Text in base64 is what a page
# opened from disk may load, and every browser since 2023 can unpack it.
UNPACK = """\
(async () => {
  const packed = Uint8Array.from(atob(`%s`), (letter) => letter.charCodeAt(0));
  const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(plain).text();
  document.head.append(script);
})();
"""


def main() -> None:
    """Fetch, check and lay out everything, unless it is already there."""
    lock = json.loads(LOCK.read_text(encoding="utf-8"))
    stamp = VENDOR / "stamp"
    wanted = fingerprint(lock)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print("Fetching the JavaScript of the book ...", flush=True)
    shutil.rmtree(VENDOR, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, archive in fetch(lock, Path(folder)).items():
            check(archive, name, lock[name]["integrity"])
            unpack(archive, WANTED[name], VENDOR)
    fetch_web_runtime(VENDOR / "onnxruntime")  # which tools/live/build.py packs
    pack(VENDOR / "require.js", VENDOR / "static/widgets/manager.js")
    install_anywidget(VENDOR / "static/widgets")
    install_icons(VENDOR / "static/scripts/fontawesome.js")
    # Last, so that an interrupted fetch is begun again.
    stamp.write_text(wanted, encoding="utf-8")


def fingerprint(lock: object) -> str:
    """A hash of all that the vendored files depend on; if it changes, they are fetched again."""
    parts = [json.dumps(lock), Path(__file__).read_text(encoding="utf-8")]
    parts += [VERSION, *FILES.values(), version("anywidget"), version("pydata-sphinx-theme")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def fetch(lock: dict[str, dict[str, str]], folder: Path) -> dict[str, Path]:
    """The archive of each locked package, fetched into a folder by the ordinary client."""
    try:
        return npm_pack([f"{name}@{entry['version']}" for name, entry in lock.items()], folder)
    except DeSTSegError as error:
        sys.exit(str(error))


def check(archive: Path, name: str, integrity: str) -> None:
    """Refuse an archive whose hash is not the locked one."""
    kind, _, expected = integrity.partition("-")
    found = base64.b64encode(hashlib.new(kind, archive.read_bytes()).digest()).decode()
    if found != expected:
        sys.exit(
            f"{name} is not what {LOCK.name} names: its {kind} is {found}, not {expected}. Do not "
            "build from it; fetch again, or review the new version and lock it."
        )


def unpack(archive: Path, wanted: dict[str, str], target: Path) -> None:
    """Write the wanted files and folders of a package and refuse one that lacks any of them."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
        (package,) = Path(folder).iterdir()
        for source, place in wanted.items():
            if not (package / source).exists():
                sys.exit(f"{archive.name} holds no {source}; the package has changed its layout.")
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(package / source, target / place)


def pack(loader: Path, manager: Path) -> None:
    """Replace the manager by a script that unpacks and runs both, at a third of the size."""
    text = FONT_FACES.sub("", manager.read_text(encoding="utf-8"))
    both = f"{loader.read_text(encoding='utf-8')}\n{text}"
    packed = gzip.compress(both.encode(), compresslevel=9, mtime=0)
    manager.write_text(UNPACK % base64.b64encode(packed).decode(), encoding="utf-8")
    loader.unlink()


def install_anywidget(widgets: Path) -> None:
    """Put anywidget's front end where the widget manager looks for it."""
    major, minor = version("anywidget").split(".")[:2]
    target = widgets / f"anywidget@~{major}.{minor}.*" / "dist" / "index.js"
    target.parent.mkdir(parents=True)
    target.write_bytes((files("anywidget") / "nbextension" / "index.js").read_bytes())


def install_icons(target: Path) -> None:
    """The theme's icon script without the icons that no page shows: 1.4 MB less on every page."""
    theme = files("pydata_sphinx_theme") / "theme/pydata_sphinx_theme/static/scripts"
    icon = re.compile(
        r'(?:"([\w-]+)"|([\w$]+)):\[\d+,\d+,\[[^\]]*\],"[0-9a-f]+",'
        r'(?:"[^"]*"|\["[^"]*","[^"]*"\])\],?'
    )
    text = (theme / "fontawesome.js").read_text(encoding="utf-8")
    kept = set(ICONS.split())
    lean = icon.sub(lambda hit: hit[0] if (hit[1] or hit[2]) in kept else "", text)
    target.parent.mkdir(parents=True)
    target.write_text(lean, encoding="utf-8")


if __name__ == "__main__":
    main()
