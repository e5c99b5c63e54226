"""Every shipped configuration parses and builds."""

from collections.abc import Callable
from pathlib import Path

import fashion
import layouts
import mtan_files
import polars
import pytest
from conftest import ROOT, SMALL
from PIL import Image
from sklearn.datasets import load_wine


def pictures(folder: Path) -> list[str]:
    """Images of several sizes."""
    for name in ("clothes/bag", "clothes/coat", "digits/0", "digits/1"):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(30):
            Image.new("RGB", (30 + number, 40), (number, 90, 9)).save(folder / "pictures" / name / f"{number}.jpg")
    return []


def unpacked_fashion(folder: Path) -> list[str]:
    fashion.unpack(folder / "data")
    return []


def installed_fashion(folder: Path) -> list[str]:
    return ["--data.sources.pairs.init_args.left", str(fashion.installed())]


def wine(folder: Path) -> list[str]:
    data = load_wine()
    frame = polars.DataFrame(data.data, schema=data.feature_names)
    frame.with_columns(cultivar=polars.Series(data.target_names[data.target])).write_csv(folder / "wine.csv")
    return []


SMALL_BATCHES = ["--data.sampling.batch_size", "2", "--data.eval_batch_size", "2", "--data.num_workers", "0"]


def cifar100(folder: Path) -> list[str]:
    layouts.cifar100(folder / "data/cifar-100-python")
    return SMALL_BATCHES


def celeba(folder: Path) -> list[str]:
    layouts.celeba(folder / "data/celeba")
    return SMALL_BATCHES


def office(name: str, inner: str, *domains: str) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        for domain in domains:
            layouts.office(folder / "office", domain, inner)
        (folder / "data/lists").mkdir(parents=True)
        (folder / "office/images").rename(folder / "data" / name)
        (folder / "office/lists").rename(folder / "data/lists" / name)
        return [*SMALL_BATCHES, "--model.backbone.init_args.backbone.init_args.pretrained", "false"]

    return write


TINY = [  # in place of a ResNet-50 with the hub's weights, of the same stages
    "--model.backbone.init_args.name=test_resnet",
    "--model.backbone.init_args.pretrained=false",
    "--model.head.init_args.width=8",
    "--data.num_workers=0",
]


def rooms(folder: Path) -> list[str]:
    mtan_files.write_nyuv2(folder / "data" / "nyuv2")
    return TINY


def streets(folder: Path) -> list[str]:
    mtan_files.write_cityscapes(folder / "data" / "cityscapes")
    return TINY


# What a configuration needs: config → writes its files where it is run, and says what else belongs on the command line.
NEEDS: dict[str, Callable[[Path], list[str]]] = {
    "celeba": celeba,
    "cifar100": cifar100,
    "cityscapes": streets,
    "folder": pictures,
    "multi_fashion": installed_fashion,
    "multi_fashion_kurin": installed_fashion,
    "multi_mnist": installed_fashion,
    "office31": office("office-31", "images/", "amazon", "dslr", "webcam"),
    "office_home": office("office-home", "", "Art", "Clipart", "Product", "Real_World"),
    "nyuv2": rooms,
    "table": wine,
    "torch_dataset": unpacked_fashion,
}
BENCHMARKS = sorted((ROOT / "configs").glob("benchmarks/*.yaml"))
CONFIGS = [*sorted((ROOT / "configs").glob("*.yaml")), *BENCHMARKS]
FRAGMENTS = [  # those of a search are not of `fit`
    path for path in sorted((ROOT / "configs").glob("*/*.yaml")) if path.parent.name not in ("benchmarks", "search")
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_builds_and_takes_a_step(train_here: Callable, tmp_path: Path, config: Path) -> None:
    more = NEEDS[config.stem](tmp_path) if config.stem in NEEDS else []
    train_here("fit", "--config", str(config), "--trainer.fast_dev_run", "1", "--trainer.accelerator", "cpu", *more)


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda path: path.stem)
def test_fragment_builds_on_any_config_and_takes_a_step(train_here: Callable, fragment: Path) -> None:
    assert "Cost of a step:" in fragment.read_text().replace("\n#", "")
    train_here("fit", "--config", str(SMALL), "--config", str(fragment), "--trainer.fast_dev_run", "1")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_header_says_what_the_run_is(config: Path) -> None:
    header = [line for line in config.read_text().splitlines() if line.startswith("#")]
    for word in ("Command:", "Hardware:", "Minutes:", "Reached:"):
        assert any(word in line for line in header), f"{config.name} lacks {word!r}"


@pytest.mark.parametrize("config", BENCHMARKS, ids=lambda path: path.stem)
def test_header_says_what_was_published(config: Path) -> None:
    assert "# Published:" in config.read_text(), f"{config.name} lacks the paper's figure"
