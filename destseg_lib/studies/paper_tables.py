"""The paper's ablation tables on MVTec AD as one study, and their reports.

Tables 4, 5 and 6 share their reference, so each of their variants is run once: eight of table 4,
one more of table 5, two more of table 6, on fifteen categories with five seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.download import DATASETS
from destseg_lib.images.folders import find_category
from destseg_lib.studies.records import Record
from destseg_lib.studies.report import report_outputs, write_report
from destseg_lib.studies.study import Study, read_study

TABLES = ("table4", "table5", "table6")
SEEDS = (0, 1, 2, 3, 4)
CATEGORIES = DATASETS["mvtec-ad"].expected
NAME = "DeSTSeg's tables 4 to 6"


def paper_study(
    categories: Sequence[str],
    seeds: Sequence[int] = SEEDS,
    *,
    recipe: str = "paper",
    settings: dict[str, Any] | None = None,
) -> Study:
    """Every variant of the three tables, once.

    Runs with a segmentation network come first: they train the students that the others need, and
    the short ones fill the gaps at the end.

    Args:
        categories: folders, or drawn categories by name.
        seeds: seeds of the runs; the paper takes five.
        recipe: a name in ``RECIPES``.
        settings: changes for all runs, as in a study; the teacher is ImageNet's if none is named.
    """
    variants: dict[str, dict[str, Any]] = {}
    for table in map(_table, TABLES):
        for name, changes in table.variants.items():
            if changes not in variants.values():
                variants[name] = changes
    longest_first = sorted(variants, key=lambda name: "model.segmentation" in variants[name])
    return Study(
        NAME,
        recipe,
        tuple(categories),
        tuple(seeds),
        {name: variants[name] for name in longest_first},
        _table("table4").reference,
        {"teacher": "imagenet", **(settings or {})},
    )


def find_data(root: Path, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """The folders of categories that can be trained and measured on.

    Args:
        root: folder of MVTec AD, or of data in its layout.
        names: names of categories; None takes MVTec AD's fifteen.

    Raises:
        DeSTSegError: one is missing or damaged; the message says how to fetch them.
    """
    wanted = CATEGORIES if names is None else tuple(names)
    missing = [name for name in wanted if not (root / name).is_dir()]
    if missing:
        raise DeSTSegError(
            f"{root} lacks {', '.join(missing)}; fetch MVTec AD with 'destseg download mvtec-ad', "
            "name the folder that holds it with --data, or some of its categories with --categories"
        )
    folders = [root / name for name in wanted]
    for folder in folders:
        if not find_category(folder).test:
            raise DeSTSegError(
                f"{folder} has no test images, so nothing can be measured on it; complete it"
            )
    return tuple(map(str, folders))


def find_textures(folder: Path | None) -> str:
    """The folder of textures: the given one, else that of ``destseg download dtd``.

    Raises:
        DeSTSegError: there is none; the message says how to fetch them.
    """
    if folder is not None and str(folder) == "procedural":
        return "procedural"
    wanted = folder or Path("data") / DATASETS["dtd"].folder / DATASETS["dtd"].use
    if not wanted.is_dir():
        raise DeSTSegError(
            f"{wanted}, the textures of the paper's synthetic anomalies, is not there; fetch them "
            "with 'destseg download dtd', name another folder with --textures, or draw them with "
            "--textures procedural"
        )
    return str(wanted)


def table_records(study: Study, records: Sequence[Record]) -> dict[str, tuple[Study, list[Record]]]:
    """Each table as a study of its own, with its records.

    Args:
        study: a study that ``paper_study`` made.
        records: records of that study.
    """
    shared = {key: getattr(study, key) for key in ("categories", "seeds", "recipe", "settings")}
    found = {}
    for name, table in ((name, _table(name)) for name in TABLES):
        # The whole study may call a variant of the table by another name.
        same = {
            variant: next(n for n, c in study.variants.items() if c == changes)
            for variant, changes in table.variants.items()
        }
        own = [
            {**record, "variant": variant, "study": table.name}
            for variant, theirs in same.items()
            for record in records
            if record["variant"] == theirs
        ]
        found[name] = replace(table, **shared), own
    return found


def check_tables(out: Path, *, overwrite: bool = False) -> None:
    """Check that ``write_tables`` may write; raises as ``report_outputs``."""
    for name in TABLES:
        report_outputs(out / name, overwrite=overwrite)


def write_tables(
    study: Study, records: Sequence[Record], out: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write a report of each table that has a finished run, and return their paths."""
    return [
        write_report(table, own, out / name, overwrite=overwrite)
        for name, (table, own) in table_records(study, records).items()
        if any(record["status"] == "done" for record in own)
    ]


def _table(name: str) -> Study:
    return read_study(Path(name))
