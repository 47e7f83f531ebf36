"""Interactive elements for the built page (without a kernel), JupyterLab and Colab.

Each shows the values that Python computes for the same setting (``displayed``), from data that
travels with the page. They need the packages of ``pip install 'destseg_lib[interactive]'``.
"""

from destseg_lib.errors import DeSTSegError

try:
    import anywidget  # noqa: F401
except ImportError as error:
    raise DeSTSegError(
        "The interactives need the package anywidget: pip install 'destseg_lib[interactive]'."
    ) from error

from destseg_lib.widgets.ablation import AblationExplorer
from destseg_lib.widgets.corruption import CorruptionLab
from destseg_lib.widgets.dilation import DilatedTaps
from destseg_lib.widgets.film import TrainingFilm
from destseg_lib.widgets.fusion import FusionByHand
from destseg_lib.widgets.live import LiveDetector
from destseg_lib.widgets.method import MethodPicture
from destseg_lib.widgets.quiz import Quiz
from destseg_lib.widgets.similarity import SimilarityProbe
from destseg_lib.widgets.threshold import ThresholdExplorer
from destseg_lib.widgets.vectors import TwoVectors

__all__ = [
    "AblationExplorer",
    "CorruptionLab",
    "DilatedTaps",
    "FusionByHand",
    "LiveDetector",
    "MethodPicture",
    "Quiz",
    "SimilarityProbe",
    "ThresholdExplorer",
    "TrainingFilm",
    "TwoVectors",
]
