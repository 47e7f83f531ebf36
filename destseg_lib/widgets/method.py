"""The picture of the method as an element: a part opens and shows its tensors for a photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from destseg_lib.checks import check_masks
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.browser import script, styles
from destseg_lib.losses import cosine_distance
from destseg_lib.metrics import image_scores
from destseg_lib.model import DeSTSeg, predict_maps, quarter, to_tensor
from destseg_lib.teacher import normalise
from destseg_lib.widgets.diagram import BOTH, PARTS, PHASES, Phase, method_picture
from destseg_lib.widgets.element import Element, Values, fixed, levels_of, packed, painted, pictures

CHANNELS = 3  # shown of each level
Pictures = Sequence[tuple[str, NDArray[Any]]]


class MethodPicture(Element):
    """The method as one picture; a click on a part shows its tensors for a photograph.

    Attributes:
        phase: ``student``, ``segmentation`` or ``test``.
        part: the part that is open.
    """

    _esm = script("method")
    _css = styles("method")
    phase = traitlets.Enum(list(PHASES), "test").tag(sync=True)
    part = traitlets.Enum(list(PARTS), "teacher").tag(sync=True)

    def __init__(
        self, tensors: Mapping[Phase, Mapping[str, Pictures]], gives: Mapping[str, str]
    ) -> None:
        """Take what each part gives in each phase, as named pictures, and the shape of it.

        A picture is (H, W) of real numbers or (H, W, 3) of uint8. ``of_model`` makes them.

        Raises:
            DeSTSegError: a part that a phase uses has no pictures.
        """
        missing = [
            f"{name} in {phase}"
            for name, part in PARTS.items()
            for phase in part.says
            if not tensors.get(phase, {}).get(name) or name not in gives
        ]
        if missing:
            raise DeSTSegError(
                f"There is nothing to show of {', '.join(missing)}; give pictures and a shape for "
                "every part that a phase uses, as MethodPicture.of_model does."
            )
        self._gives = dict(gives)
        shown: dict[Phase, dict[str, list[int]]] = {}
        known: list[dict[str, Any]] = []  # the same picture in two phases travels once
        for phase in PHASES:
            for name in (name for name, part in PARTS.items() if phase in part.says):
                given = [_packed(*picture) for picture in tensors[phase][name]]
                known += [picture for picture in given if picture not in known]
                shown.setdefault(phase, {})[name] = [known.index(picture) for picture in given]
        data = {
            "label": "The method",
            "hint": "Press a part to see what it does, and its tensors for this photograph.",
            "phases": PHASES,
            "drawn": {phase: method_picture(phase=phase) for phase in PHASES},
            "parts": {
                name: {"label": " ".join(part.label), "chapter": part.chapter, "says": part.says}
                for name, part in PARTS.items()
            },
            "values": {
                phase: {name: self.displayed(phase, name) for name in PARTS} for phase in PHASES
            },
            "shown": shown,
            "pictures": known,
        }
        trials = [
            ("student", "student"), ("segmentation", "product"), ("segmentation", "segmentation"),
            ("test", "score"), ("test", "teacher"),
        ]  # fmt: skip
        super().__init__(data, trials)

    @classmethod
    def of_model(
        cls,
        model: DeSTSeg,
        good: ArrayLike,
        corrupted: ArrayLike,
        mask: ArrayLike,
        photograph: ArrayLike,
        threshold: float,
    ) -> MethodPicture:
        """Show a model's own tensors.

        Args:
            model: on the CPU, with a segmentation network; put into eval mode.
            good: (S, S, 3) of uint8, at the size the model was trained at.
            corrupted: the same image, corrupted, (S, S, 3).
            mask: of the corruption, (S, S), 0 or 1.
            photograph: an image to test, (S, S, 3).
            threshold: for its score.

        Raises:
            DeSTSegError: shapes or types differ, or the model has no segmentation network.
        """
        three = [
            pictures(np.asarray(image)[None], "images") for image in (good, corrupted, photograph)
        ]
        if len({stack.shape for stack in three}) > 1:
            raise DeSTSegError(f"The images are {[s.shape[1:] for s in three]}; give one size.")
        clean, damaged, new = three
        truth = check_masks(np.asarray(mask)[None], clean.shape[:3])[0]
        if model.segmentation is None:
            raise DeSTSegError("The model has no segmentation network, which the picture shows.")
        inputs: dict[Phase, tuple[NDArray[np.uint8], NDArray[np.uint8]]] = {
            "student": (clean, damaged),
            "segmentation": (damaged, damaged),
            "test": (new, new),
        }
        tensors: dict[Phase, dict[str, Pictures]] = {}
        shapes: dict[str, str] = {}
        for phase, (seen, given) in inputs.items():
            tensors[phase], shapes = _tensors(model.eval(), seen, given)
        damage = [("corrupted Iₐ", damaged[0]), ("mask M", truth.astype(float))]
        for phase in BOTH:
            tensors[phase]["photograph"] = [("good photograph I", clean[0])]
            tensors[phase]["corruption"] = damage
        tensors["test"]["photograph"] = [("photograph I", new[0])]
        final = next(predict_maps(model, new, precision="fp32", progress=False)).final
        score = image_scores(final)[0]
        verdict = "above" if score > threshold else "not above"
        # Half of the pixels in a row and in a column are enough to look at.
        tensors["test"]["score"] = [("final map", final[0, ::2, ::2])]
        side = clean.shape[1]
        gives = shapes | {
            "photograph": f"3 × {side} × {side}",
            "corruption": f"3 × {side} × {side}, mask 1 × {side} × {side}",
            "score": f"{fixed(score, 3)}, {verdict} {fixed(threshold, 3)}",
        }
        return cls(tensors, gives)

    def displayed(self, phase: Any, part: Any) -> Values:
        """The values shown for a setting, as text."""
        one = PARTS[part]
        if phase not in one.says:
            return {"state": "not used in this phase", "gives": "nothing"}
        return {"state": one.states.get(phase, "nothing to learn"), "gives": self._gives[part]}


def _tensors(
    model: DeSTSeg, seen: NDArray[np.uint8], given: NDArray[np.uint8]
) -> tuple[dict[str, Pictures], dict[str, str]]:
    """What every part gives when the teacher sees one image and the student the other."""
    left, right = (normalise(to_tensor(stack)) for stack in (seen, given))
    with torch.no_grad():
        teacher = model.features_of(model.teacher, left)
        student = model.features_of(model.student, right)
        maps = model.maps(teacher, student, quarter(left))
    distances = [cosine_distance(s, t)[0].numpy() for s, t in zip(student, teacher, strict=True)]
    joined = [t * s for t, s in zip(teacher, student, strict=True)]
    # The same channels of both networks: those in which the teacher's picture varies most.
    chosen = [t[0].std(dim=(1, 2)).topk(CHANNELS).indices.tolist() for t in teacher]

    def some(features: Sequence[Tensor]) -> Pictures:
        return [
            (f"level {k}, channel {c}", level[0, c].numpy())
            for k, (level, channels) in enumerate(zip(features, chosen, strict=True), start=1)
            for c in channels
        ]

    shape = ", ".join(" × ".join(map(str, level.shape[1:])) for level in teacher)
    small = " × ".join(map(str, maps.final.shape[1:]))
    drawn = {
        "teacher": some(teacher),
        "student": some(student),
        "distances": [(f"D, level {k}", d) for k, d in enumerate(distances, start=1)],
        "features": some(joined),
        "product": [("distance product D", maps.student[0, 0].numpy())],
        "segmentation": [("final map Ŷ", maps.final[0, 0].numpy())],
    }
    gives = {
        "distances": ", ".join(f"1 × {d.shape[0]} × {d.shape[1]}" for d in distances),
        "product": small,
        "segmentation": small,
    }
    return drawn, dict.fromkeys(("teacher", "student", "features"), shape) | gives


def _packed(label: str, picture: NDArray[Any]) -> dict[str, Any]:
    """A picture as the page takes it: bytes, with the numbers that black and white stand for."""
    height, width = picture.shape[:2]
    shown = {"name": label, "height": height, "width": width}
    if picture.ndim == 3:
        palette, levels = painted(picture[None])
        return shown | {"colours": packed(palette), "levels": packed(levels[0])}
    levels, low, high = levels_of(picture)
    return shown | {"levels": packed(levels), "range": f"{fixed(low, 2)} to {fixed(high, 2)}"}
