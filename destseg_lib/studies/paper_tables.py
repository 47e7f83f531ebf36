"""The paper's ablation tables on MVTec AD as one study, and what they will take.

Tables 4, 5 and 6 share their reference, so each of their variants is run once: eight of table 4,
one more of table 5, two more of table 6, on fifteen categories with five seeds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.download import DATASETS
from destseg_lib.images.folders import find_category
from destseg_lib.studies.costs import Costs
from destseg_lib.studies.report import write_report
from destseg_lib.studies.run import Record
from destseg_lib.studies.schedule import Job, Simulated, simulate
from destseg_lib.studies.study import Study, Trial, read_study, trials

TABLES = ("table4", "table5", "table6")
SEEDS = (0, 1, 2, 3, 4)
CATEGORIES = DATASETS["mvtec-ad"].expected
NAME = "DeSTSeg's tables 4 to 6"


def paper_study(
    categories: Sequence[str],
    seeds: Sequence[int] = SEEDS,
    *,
    recipe: str = "paper",
    teacher: str = "imagenet",
    textures: str | None = None,
    settings: dict[str, Any] | None = None,
) -> Study:
    """Every variant of the three tables, once.

    Runs with a segmentation network come first: they train the students that the others need, and
    the short ones fill the gaps at the end.

    Args:
        categories: folders, or drawn products by name.
        seeds: the paper takes five.
        recipe: a name in ``RECIPES``.
        teacher: as ``load_teacher`` takes it.
        textures: a folder of textures, DTD's in the paper; ``procedural`` or None draws them.
        settings: more for every run, as a study's own.
    """
    variants: dict[str, dict[str, Any]] = {}
    for table in map(_table, TABLES):
        for name, changes in table.variants.items():
            if changes not in variants.values():
                variants[name] = changes
    longest_first = sorted(variants, key=lambda name: "model.segmentation" in variants[name])
    common = {"teacher": teacher} | ({} if textures is None else {"textures": textures})
    return Study(
        NAME,
        recipe,
        tuple(categories),
        tuple(seeds),
        {name: variants[name] for name in longest_first},
        _table("table4").reference,
        common | (settings or {}),
    )


def find_data(root: Path, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """The categories' folders, each whole.

    Args:
        root: of MVTec AD, or of data in its layout.
        names: of categories; None is MVTec AD's fifteen.

    Raises:
        DeSTSegError: one is missing or damaged; the message says how to fetch them.
    """
    wanted = CATEGORIES if names is None else tuple(names)
    missing = [name for name in wanted if not (root / name).is_dir()]
    if missing:
        raise DeSTSegError(
            f"{root} lacks {', '.join(missing)}; fetch MVTec AD with 'destseg download mvtec-ad', "
            "name the folder that holds it with --data, or fewer of it with --categories"
        )
    folders = [root / name for name in wanted]
    for folder in folders:
        if not find_category(folder).test:
            raise DeSTSegError(f"{folder} has no test images, so nothing can be measured on it")
    return tuple(map(str, folders))


def find_textures(folder: Path | None) -> str:
    """The textures' folder: as asked for, else where ``destseg download dtd`` puts them.

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


def work(waiting: Sequence[Trial], costs: Costs, done: Collection[str] = ()) -> list[Job]:
    """What is left to do, as jobs.

    Args:
        waiting: trials that have no record.
        costs: of a step and an image.
        done: students that are trained already.
    """
    images = {t.category: len(find_category(Path(t.category)).test) for t in waiting}
    return [
        replace(job, training=0.0) if job.student in done else job
        for job in costs.jobs(waiting, images)
    ]


def describe_estimate(study: Study, jobs: Sequence[Job], costs: Costs, workers: int) -> str:
    """The estimate in words: what is left, how long it takes, and where the numbers are from."""
    whole: Simulated = simulate(jobs, workers)
    students = len({job.student for job in jobs})
    at_once = f"{workers} at once" if workers > 1 else "one after another"
    lines = [
        f"{len(jobs)} of {len(trials(study))} runs are left: {len(study.variants)} variants, "
        f"{len(study.categories)} categories, {len(study.seeds)} seeds; {students} students",
        f"estimate: {duration(whole.makespan)}, {at_once} ({duration(whole.work)} of work, "
        f"{whole.efficiency:.0%} of the workers' time)",
        f"from {costs.source}: "
        + "; ".join(
            f"{phase} {', '.join(f'{s:.3g} s ({kind})' for kind, s in rates.items())} a step"
            for phase, rates in (("student", costs.student), ("segmentation", costs.segmentation))
        ),
    ]
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def table_records(study: Study, records: Sequence[Record]) -> dict[str, tuple[Study, list[Record]]]:
    """Each table as a study of its own, with the records that belong to it.

    Args:
        study: as ``paper_study`` made it.
        records: its own.
    """
    found = {}
    for name, table in ((name, _table(name)) for name in TABLES):
        # The variant of the whole study that is this one of the table, by what it changes.
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
        asked = replace(
            table,
            categories=study.categories,
            seeds=study.seeds,
            recipe=study.recipe,
            settings=study.settings,
        )
        found[name] = asked, own
    return found


def write_tables(study: Study, records: Sequence[Record], out: Path) -> list[Path]:
    """Write a report of each table of which something has finished; returns their paths."""
    return [
        write_report(table, own, out / name)
        for name, (table, own) in table_records(study, records).items()
        if any(record["status"] == "done" for record in own)
    ]


def _table(name: str) -> Study:
    return read_study(Path(name))
