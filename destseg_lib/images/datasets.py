"""The public data sets the project trains on: where they are, how to know them, their licences."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dataset:
    """A data set as one archive; ``unpacked`` and ``size`` are bytes, rounded up.

    ``folder`` is what it is unpacked to, ``expected`` what must lie in there, ``use`` the part
    of it to hand to ``option`` on the command line.
    """

    title: str
    url: str
    sha256: str
    archive: str
    size: int
    unpacked: int
    folder: str
    use: str
    option: str
    expected: tuple[str, ...]
    homepage: str
    licence: str


DATASETS: dict[str, Dataset] = {
    "mvtec-ad": Dataset(
        title="MVTec AD",
        url=(
            "https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/"
            "420938113-1629960298/mvtec_anomaly_detection.tar.xz"
        ),
        sha256="cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
        archive="mvtec_anomaly_detection.tar.xz",
        size=5_300_000_000,
        unpacked=5_500_000_000,
        folder="mvtec-ad",
        use=".",
        option="--data",
        expected=(
            *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut"),
            *("pill", "screw", "tile", "toothbrush", "transistor", "wood", "zipper"),
        ),
        homepage="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        licence=(
            "Creative Commons BY-NC-SA 4.0: use it for non-commercial purposes only, name MVTec "
            "and its papers (Bergmann et al., CVPR 2019 and IJCV 2021), pass on what you derive "
            "from it under the same terms."
        ),
    ),
    "dtd": Dataset(
        title="Describable Textures Dataset",
        url="https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
        sha256="e42855a52a4950a3b59612834602aa253914755c95b0cff9ead6d07395f8e205",
        archive="dtd-r1.0.1.tar.gz",
        size=650_000_000,
        unpacked=700_000_000,
        folder="dtd",
        use="images",
        option="--textures",
        expected=("images",),
        homepage="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        licence=(
            "Photographs collected from the web, made available for research; the rights stay "
            "with their owners. Cite Cimpoi et al., CVPR 2014."
        ),
    ),
}
