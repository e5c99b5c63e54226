"""A user's own source: overlaid digits as files, of which tests break some."""

from pathlib import Path

from torchvision.transforms.v2.functional import to_pil_image

from datamodules.sources import SPLITS, Digits, ImageSplit, Source


class Pictures(Source):
    def __init__(self, folder: str = "pictures") -> None:
        self.folder, self.digits = Path(folder), Digits(train_pairs=96, val_pairs=20, test_pairs=20)
        self.targets = self.digits.targets

    def split(self, name: str) -> ImageSplit:
        whole = self.digits.split(name)
        paths = [f"{name}/{row}.png" for row in range(len(whole))]
        return ImageSplit(self.folder, paths, {task: whole._labels[task] for task in self.targets}, mode="L")

    def write(self) -> None:
        for name in SPLITS:
            (self.folder / name).mkdir(parents=True)
            for row, image in enumerate(self.digits.split(name).inputs):
                to_pil_image(image).save(self.folder / name / f"{row}.png")


def cut(path: str) -> bytes:
    """Truncate a file; what it held before."""
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2])
    return whole
