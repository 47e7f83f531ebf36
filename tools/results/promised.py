"""Tables of promises: what the features say of held-out and new photographs, and what runs kept."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

from tables import commit, machine, means, percent, read, section

WAYS = {"photographs": "single photographs", "blocks": "blocks", "groups": "groups"}
RECIPES = {"shipped": "the model that ships"}
TITLES = {"final": "final map", "product": "distance product", "both": "both"}


def nearness(folder: Path) -> list[str]:
    """How near held-out and new photographs are to those trained on, and a second table of why."""
    records = by_kind(read(path) for path in sorted(folder.glob("near-*.json")))
    if not records:
        return []
    one, rows, places = records[0], [], []
    for record in records:
        counts, new = record["photographs"], record["nearest_is_new"]
        for way, found in record["ways"].items():
            achieved = found["achieved"]
            rows.append(
                [
                    record["category"] if way == "photographs" else "",
                    WAYS[way],
                    f"{found['held_out']['mean']:.0f}",
                    *(interval(found[key], 1) for key in ("nearest_ratio", "far_ratio")),
                    *(interval(found[key], 100) for key in ("nearest_farther", "far_farther")),
                    percent(found["promised"]["mean"]),
                    f"{percent(achieved['mean'])} ± {percent(achieved['spread'])}",
                ]
            )
        again = record["repeats"]
        places.append(
            [
                record["category"],
                f"{counts['good']}, {counts['new']}",
                f"{percent(new['share'])} ({percent(new['chance'])})",
                f"{record['shift']['p']:.3f}",
                f"{again['first']} to {again['last']}",
                f"{percent(again['share'])} ({percent(again['chance'])})",
            ]
        )
    far = f"{one['far_neighbour']}th nearest"
    pixels = f"{one['image_size']} pixels"
    return [
        *section(
            "Held-out and new photographs: their distance to the training set",
            [
                "category", "held out", "of them", "nearest: ratio", f"{far}: ratio",
                "nearest: new farther", f"{far}: new farther", "promised", "achieved",
            ],
            rows,
            "The ratio is the held-out photographs' median distance to a neighbour in the training "
            "set by that of the test set's good ones: below 1, the held-out ones are nearer. *New "
            "farther* is the share of pairs of both, in per cent, in which the new one is; 50 "
            f"where they are alike. Means over {one['draws']:,} hold-outs of a tenth, with the 95% "
            "interval of hold-outs and test photographs drawn again. *Promised* and *achieved*, in "
            "per cent, are the false alarms of a detector that is only the distance to the nearest "
            "training photograph, with the standard deviation over hold-outs. Pooled features of "
            f"levels 2 and 3 at {pixels}, of the ImageNet teacher for photographs and of the "
            "built-in one for drawn categories, which follow them; "
            f"{machine(one['provenance'])}, {commit(one['provenance'])}.",
        ),
        *section(
            "Where photographs have their nearest likeness",
            [
                "category", "good, new", "a new one is nearest to a new one (by chance)",
                "alike as a whole: p",
                "files to a good one's nearest", "of all (by chance)",
            ],
            places,
            "In per cent. *p* is the share of permutations of good and new photographs whose "
            "energy distance is as large as theirs: small where new ones are others as a whole. "
            "Files are counted in the order of their names; the eleven distances that stand out "
            "most are shown.",
        ),
    ]  # fmt: skip


def by_kind(records: Any) -> list[dict[str, Any]]:
    """Records of photographs, then those of drawn categories."""
    return sorted(records, key=lambda record: record["teacher"]["name"] == "builtin")


def interval(found: dict[str, Any], scale: int) -> str:
    """A mean with its interval."""
    digits = 2 if scale == 1 else 0
    low, high = found["interval"]
    return (
        f"{scale * found['mean']:.{digits}f} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"
    )


def kept(folder: Path) -> list[str]:
    """Promised and achieved false alarms of trained runs, by what the image score is made of."""
    runs: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("kept-*.json")):
        category, recipe, way, _ = path.stem.removeprefix("kept-").rsplit("-", 3)
        runs[category, recipe, way].append(read(path))
    rows, every = [], []
    for (category, recipe, way), records in runs.items():
        for score, title in TITLES.items():
            found = [record["scores"][score] for record in records]
            best = [one["best"] for one in found]
            first = score == "final"
            rows.append(
                [
                    f"{category}, {RECIPES.get(recipe, recipe)}" if first else "",
                    WAYS[way] if first else "",
                    str(len(records)) if first else "",
                    title,
                    *means(found, "image_auroc"),
                    percent(mean(one["promised"] for one in best)),
                    ", ".join(f"{one['above']} of {one['images']}" for one in best),
                    ", ".join(f"[{percent(o['low'])}, {percent(o['high'])}]" for o in best),
                    f"{sum(one['contained'] for one in best)} of {len(best)}",
                    percent(mean(one["contained_by_chance"] for one in best)),
                ]
            )
        every += records
    if not rows:
        return []
    where = sorted({f"{machine(r['provenance'])}, {commit(r['provenance'])}" for r in every})
    return section(
        "Promised and achieved false alarms",
        [
            "category", "held out", "seeds", "image score of", "image AUROC", "promised",
            "good test images above", "95% interval", "contains the promise", "by chance",
        ],
        rows,
        "In per cent. The promise is the best that the held-out images can make; *both* is the "
        "geometric mean of the two scores. The last column is how often the interval contains the "
        "promise where new images are exchangeable with those held out: not in 95%, as the "
        f"threshold varies too. {'; '.join(where)}.",
    )  # fmt: skip
