"""What a search may be asked for, and what it is told if not."""

from math import inf

import pytest
from conftest import ROOT, SMALL
from jsonargparse import Namespace

from app.cli import PolyheadCLI
from app.search import Dimension
from app.search.space import distributions, points, short, short_names, values
from app.search.trial_configuration import TrialConfiguration


class Parsed(PolyheadCLI):
    """The command line, read and nothing more."""

    def instantiate_classes(self) -> None:
        pass

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def parsed(*arguments: str) -> tuple[TrialConfiguration, Namespace]:
    cli = Parsed(["search", "--config", str(SMALL), *arguments])
    return TrialConfiguration(cli._parser("fit"), cli.config["search"]), cli.config["search"]


@pytest.fixture(scope="module")
def base() -> TrialConfiguration:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train.py"])
        return parsed()[0]


RANGES = {
    "no key": ({}, "search.space: must name a key"),
    "low above high": ({"a.b": Dimension(2, 1)}, "search.space.a.b: low must be less than high, found 2 and 1"),
    "low is high": ({"a": Dimension(1, 1)}, "search.space.a: low must be less than high, found 1 and 1"),
    "logarithm of 0": ({"a": Dimension(0, 1, log=True)}, "search.space.a: with log, low must be greater than 0"),
    "no high": ({"a": Dimension(low=1)}, "search.space.a: must have low and high, or choices"),
    "both": ({"a": Dimension(1, 2, choices=[3])}, "search.space.a: must be a range or choices"),
    "no choice": ({"a": Dimension(choices=[])}, "search.space.a.choices: must be different values"),
    "twice": ({"a": Dimension(choices=[{"x": 1}, {"x": 1}])}, "search.space.a.choices: must be different values"),
    "step too long": ({"a": Dimension(0, 1, step=2)}, "search.space.a.step: must be greater than 0 and fit"),
    "step of a logarithm": ({"a": Dimension(1, 2, log=True, step=1)}, "search.space.a: must have log or a step"),
    "part of an integer": ({"a": Dimension(1.5, 3, integer=True)}, "search.space.a.low: must be an integer"),
}


@pytest.mark.parametrize("case", RANGES)
def test_space_that_cannot_be_drawn_from(case: str) -> None:
    space, message = RANGES[case]
    with pytest.raises(ValueError, match=f"^{message}"):
        distributions(space)


@pytest.mark.parametrize(
    ("key", "choice", "words"),
    [
        (
            "model.optimizer.init_args.lrr",
            1,
            ["'model.optimizer.init_args.lrr'", "near it: model.optimizer.init_args.lr"],
        ),
        ("model.optimzer.init_args.lr", 1, ["'model.optimzer.init_args.lr'", "near it: model.optimizer.init_args.lr"]),
        ("model.layers.deca", 1, ["'model.layers.deca'", "near it: model.layers.decay"]),
        ("help", 1, ["must name keys of the configuration, found 'help'"]),
        ("model.balancer", "CAGradd", ["search.space.model.balancer", "CAGradd"]),
        ("schedule", {"preset": "surgical", "blok": "last"}, ["search.space.schedule", "'blok'"]),
        ("trainer.max_epochs", 1.5, ["search.space.trainer.max_epochs", "1.5"]),
        ("data.folds.k", 3, ["must leave data.folds.k to the search"]),
        ("monitor", "loss/val/left", ["must leave monitor to the search"]),
    ],
)
def test_key_or_choice_that_does_not_exist(
    base: TrialConfiguration, key: str, choice: object, words: list[str]
) -> None:
    good = "model.optimizer.lr"  # as on the command line, `init_args` may be left out
    with pytest.raises(ValueError, match=r"^search\.space") as refused:
        base.check({good: Dimension(0.1, 0.2), key: Dimension(choices=[choice])})
    for word in words:
        assert word in str(refused.value)
    assert "\n" not in str(refused.value)


def test_values_go_where_the_command_line_puts_them(base: TrialConfiguration) -> None:
    block = {"class_path": "CAGrad", "init_args": {"c": 0.2}}
    space = {
        "model.optimizer.init_args.lr": Dimension(1e-5, 1e-1, log=True),
        "model.balancer": Dimension(choices=[None, block, "PCGrad"]),
        "schedule": Dimension(choices=[None, "lp_ft"]),
        "model.backbone.init_args.widths": Dimension(choices=[[8, 8], [4, 4]]),
        "trainer.max_epochs": Dimension(1, 9, step=4, integer=True),
    }
    base.check(space)
    drawn = distributions(space)
    labels = drawn["model.balancer"].choices
    suggested = {
        "model.optimizer.init_args.lr": 1e-5,
        "model.balancer": labels[1],
        "schedule": "lp_ft",
        "model.backbone.init_args.widths": drawn["model.backbone.init_args.widths"].choices[1],
        "trainer.max_epochs": 5,
    }
    config = base.with_values(values(space, suggested))
    assert config.model.optimizer.init_args.lr == 1e-5
    assert config.model.optimizer.init_args.weight_decay == 0.01  # the rest of the base
    assert config.model.balancer.init_args.c == 0.2
    assert config.schedule == "lp_ft"
    assert config.model.backbone.init_args.widths == [4, 4]
    assert config.model.backbone.init_args.features == 16
    assert config.trainer.max_epochs == 5
    assert base.with_values(values(space, {**suggested, "model.balancer": labels[0]})).model.balancer is None
    assert points(drawn) == inf
    assert points({key: drawn[key] for key in ("schedule", "trainer.max_epochs", "model.balancer")}) == 2 * 3 * 3


def test_names_for_people() -> None:
    assert (
        short({"class_path": "app.balancing.CAGrad", "init_args": {"c": 0.25, "kind": None}})
        == "CAGrad(c=0.25, kind=null)"
    )
    assert short(0.000123456) == "0.0001235"
    keys = ["model.optimizer.init_args.lr", "model.head.dropout", "model.backbone.dropout", "schedule"]
    assert list(short_names(keys).values()) == ["lr", "head.dropout", "backbone.dropout", "schedule"]


def test_study_is_the_same_on_another_machine_alone(base: TrialConfiguration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    same = parsed("--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.num_workers", "3", "--name", "other")
    assert same[0].identity() == base.identity()
    other = parsed("--model.tasks.sum.weight", "2")
    assert other[0].identity() != base.identity()


@pytest.mark.parametrize("config", sorted((ROOT / "configs/search").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_space_is_one(monkeypatch: pytest.MonkeyPatch, config) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    base, options = parsed("--config", str(config))
    space = {key: Dimension(**vars(each)) for key, each in options.search.space.items()}
    base.check(space)
    assert distributions(space)
