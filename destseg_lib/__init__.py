"""DeSTSeg, step by step: the method of the CVPR 2023 paper, one idea a module."""

from destseg_lib.config import ModelConfig, TrainingConfig, paper_recipe, quick_recipe
from destseg_lib.errors import DeSTSegError
from destseg_lib.model import DeSTSeg
from destseg_lib.teacher import load_teacher

__version__ = "0.1.0"

__all__ = [
    "DeSTSeg",
    "DeSTSegError",
    "ModelConfig",
    "TrainingConfig",
    "load_teacher",
    "paper_recipe",
    "quick_recipe",
]
