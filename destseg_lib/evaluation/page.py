"""A trained model as a page that judges photographs in the browser, with no server behind it."""

from __future__ import annotations

import json
from html import escape

from destseg_lib.evaluation.browser import (
    COMPUTING,
    PackedRun,
    classic_script,
    part_script,
    styles,
)

INDEX = "index.html"
# The page may run what it holds, and ask nobody for anything: the browser sees to it.
POLICY = (
    "default-src 'none'; script-src {files} 'unsafe-inline' 'unsafe-eval' blob: data:; "
    "worker-src blob:; style-src 'unsafe-inline'; img-src blob: data:; "
    "connect-src 'none'; form-action 'none'; base-uri 'none'"
)


def page_files(run: PackedRun, *, single: bool) -> dict[str, str]:
    """The page's files by name: ``index.html`` and the scripts that it loads, or only itself.

    Args:
        run: to judge with.
        single: put everything into ``index.html``, so that one file can be passed on.
    """
    name = run.data["categories"][0]["name"]
    title = f"{name[:1].upper()}{name[1:]}: good or defective?"
    scripts = {f"{key}.js": part_script(key, part) for key, part in run.parts.items()}
    data = json.dumps({**run.data, "title": title}).replace("<", "\\u003c")
    code = f"(() => {{\n{classic_script(*COMPUTING, 'page')}\nstart({data});\n}})();\n"
    held = list(scripts.values()) if single else []
    inside = "".join(f"<script>{text}</script>\n" for text in [*held, code])
    policy = POLICY.format(files="" if single else "'self' file:")
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>
{styles("live", "page")}
</style>
</head>
<body>
<main id="page"></main>
<noscript>This page computes with JavaScript, which is switched off here.</noscript>
{inside}</body>
</html>
"""
    return {INDEX: text, **({} if single else scripts)}
