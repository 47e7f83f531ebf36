"""DeSTSeg, step by step: the method of the CVPR 2023 paper, one idea per file.

The method, in the order of the book:

=======  =================  ====================================================================
Chapter  File               Idea
=======  =================  ====================================================================
1        config.py          every constant of the paper, once, with its section; the recipes
2        metrics.py         all metrics from one sort of the pixel scores
2        threshold.py       the score above which a photograph is called anomalous
3        resnet.py          the residual network that teacher and student share
3        teacher.py         the frozen network that describes a photograph
4        losses.py          cosine distance, focal loss and L1
5        textures.py        the textures that synthetic anomalies are filled with
5        corruption.py      Perlin masks, and textures blended into good photographs
6        student.py         the encoder-decoder that must describe the undamaged photograph
7        fusion.py          from two descriptions to one map: distance product, feature product
7b       segmentation.py    the network that draws the defect
7        model.py           teacher, student and segmentation network together
8        batches.py         the images of each training step, the same whenever they are drawn
8        training.py        the two phases, each computing only what it needs
=======  =================  ====================================================================

Short helpers: ``errors.py`` (the one exception that a user is meant to read), ``device.py`` (which
processor, in which arithmetic) and ``checks.py`` (valid inputs of the metrics).

The folders, each of which may import those before it:

- ``files/``: files that are written whole or not at all, and never over a user's
- ``images/``: image files and data sets to uint8 arrays
- ``drawn/``: drawn categories, which need no download
- ``runs/``: one training on disk, which can be stopped and continued
- ``evaluation/``: a trained model on images: metrics, scores and pictures
- ``studies/``: many runs compared; the paper's tables
- ``widgets/``: the interactives of the book
- ``cli/``: the commands

The import rule: a file here imports only files here and ``files``; ``images`` and ``drawn`` import
nothing but ``config``, ``errors`` and ``files``; ``runs``, ``evaluation``, ``studies`` and ``cli``
import what comes before them; ``widgets`` imports anything but ``cli``.
"""

from destseg_lib.config import ModelConfig, TrainingConfig, paper_recipe, quick_recipe
from destseg_lib.errors import DeSTSegError
from destseg_lib.model import DeSTSeg
from destseg_lib.teacher import load_teacher

__version__ = "0.2.0"

__all__ = [
    "DeSTSeg",
    "DeSTSegError",
    "ModelConfig",
    "TrainingConfig",
    "load_teacher",
    "paper_recipe",
    "quick_recipe",
]
