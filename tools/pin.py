"""Print the installed versions as pip constraints: names and versions, no addresses."""

from __future__ import annotations

import re
from importlib.metadata import distributions

HEADER = """\
# The versions that the tests and the book were last built with: `make constraints` writes this
# file from .venv. Names and versions only, so that any package index can serve it. The CUDA
# packages are left to torch, which asks for those that suit the platform."""

# Not pinned: the project itself, what made the environment, and what only some platforms have.
LEFT_OUT = re.compile(r"(destseg[-_.]lib|pip|setuptools|wheel|triton|nvidia-.*|cuda-.*)$", re.I)


def pins() -> list[str]:
    """``name==version`` of each installed package, sorted; local build tags (+cpu) dropped."""
    return sorted(
        {
            f"{package.name}=={package.version.partition('+')[0]}"
            for package in distributions()
            if not LEFT_OUT.match(package.name)
        },
        key=str.lower,
    )


if __name__ == "__main__":
    print("\n".join([HEADER, *pins()]))
