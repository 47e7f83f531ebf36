"""The live element in a notebook: paint a defect, and the reader's own model looks for it."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from numpy.typing import ArrayLike
from PIL import Image

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.browser import COMPUTING, packed_run, script, styles
from destseg_lib.runs.quantise import Weights
from destseg_lib.runs.run import Run
from destseg_lib.runs.web_runtime import web_runtime
from destseg_lib.widgets.element import pictures

EXAMPLES = 6


class LiveDetector(anywidget.AnyWidget):
    """A trained run in the browser: paint a defect on a good picture and see it found.

    The run is exported when the element is made, and computed by ONNX Runtime Web in the page. So
    a notebook that was saved with its widgets works without a kernel, too.

    Attributes:
        data: everything that the page needs: some ten to thirty megabytes.
    """

    _esm = script(*COMPUTING, "live_easel", "live")
    _css = styles("live")
    data = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        run: Run,
        good: ArrayLike,
        *,
        name: str = "this part",
        weights: Weights = "fp16",
        fpr: float | None = None,
        runtime: Path | None = None,
    ) -> None:
        """Export a run and take its good pictures.

        Args:
            run: on the CPU.
            good: images (N, S, S, 3) of the run's size that were not trained on. The first six
                are there to paint on; all of them give the thresholds.
            name: of what it inspects.
            weights: how they are stored in the page.
            fpr: false-positive rate of the thresholds, as ``threshold_at`` takes it.
            runtime: a folder with the files of onnxruntime-web; None fetches them from npm, once.

        Raises:
            DeSTSegError: the images are not of the run's size, or as ``packed_run`` and
                ``web_runtime``.
        """
        side, stack = run.config.image_size, pictures(good, "good pictures")
        if stack.shape[1:3] != (side, side):
            raise DeSTSegError(
                f"The good pictures are {stack.shape}; the run takes {side} pixels. Read them with "
                f"read_image(path, {side})."
            )
        examples = {"good": [{"picture": as_data(one)} for one in stack[:EXAMPLES]], "defects": []}
        packed = packed_run(
            run,
            name,
            stack,
            web_runtime(runtime),
            weights=weights,
            fpr=fpr,
            more={"model.json": json.dumps(examples).encode()},
        )
        super().__init__(data={"label": "Live detector", "inline": packed.parts, **packed.data})


def as_data(image: Any) -> str:
    """A picture (H, W, 3) as a PNG within an address, which a page from disk may read."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
