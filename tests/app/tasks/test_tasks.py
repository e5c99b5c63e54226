"""How a target is learned, against references written out by hand."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MeanAbsolutePercentageError
from torchmetrics.classification import MulticlassAccuracy

from app.tasks import Task, TaskConfig, task_of
from app.training.module import MultiTaskModule
from datamodules.targets import Binary, Categorical, Continuous, MultiLabel, Target
from models.backbones import MLP

KINDS = Categorical(("cat", "dog", "eel"), counts=(6, 3, 1))
SMOKER = Binary(("non-smoker", "smoker"), positives=0.2)
FLAGS = MultiLabel(("odd", "big", "red"), positives=(0.5, 0.1, 0.8))
MASS = Continuous("kg", mean=2000.0, std=4.0)
TARGETS = {"kinds": KINDS, "smoker": SMOKER, "flags": FLAGS, "mass": MASS}

OUTPUTS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) * 2
CLASSES = torch.tensor([0, 2, 1, 0, 0, 2])
ONES = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 1.0])
MANY = torch.tensor([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 0]]).float()
MASSES = torch.tensor([2000.0, 1996.0, 2003.0, 2010.5, 1990.0, 2001.0])


def task(target: Target, **config) -> Task:
    return task_of("it", target, TaskConfig(**config))


def log_softmax(outputs: np.ndarray) -> np.ndarray:
    return outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))


def binary_cross_entropy(logits: np.ndarray, labels: np.ndarray, factor: np.ndarray | float = 1.0) -> np.ndarray:
    p = 1 / (1 + np.exp(-logits))
    return -factor * labels * np.log(p) - (1 - labels) * np.log(1 - p)


def close(found: Tensor, expected: np.ndarray) -> None:
    assert found.shape == (len(expected),)
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-5)


@pytest.mark.parametrize("weights", [None, [1, 2, 3], [0.5, 0.0, 4.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy(weights: list[float] | None, smoothing: float) -> None:
    found = task(KINDS, class_weights=weights, label_smoothing=smoothing).losses(OUTPUTS, CLASSES)
    wanted = np.eye(3)[CLASSES] * (1 - smoothing) + smoothing / 3
    close(found, -(np.array(weights or [1.0] * 3) * wanted * log_softmax(OUTPUTS.numpy())).sum(axis=1))


def test_balanced_class_weights_are_those_of_scikit_learn() -> None:
    labels = np.random.default_rng(0).choice(3, size=200, p=[0.7, 0.2, 0.1])
    fitted = KINDS.fitted(torch.from_numpy(labels))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(task(fitted, class_weights="balanced").loss.weight.numpy(), expected, rtol=1e-6)
    unequal = task(Categorical(("a", "b", "c", "d"), (4, 0, 2, 2)), class_weights="balanced").loss.weight
    assert unequal.tolist() == [0.5, 0.0, 1.0, 1.0]  # no row of a class, no infinite weight


@pytest.mark.parametrize(
    ("weight", "factor"), [(None, 1.0), (3.0, 3.0), (3, 3.0), ([0.5], 0.5), (0.0, 0.0), ("balanced", 0.8 / 0.2)]
)
def test_binary_cross_entropy(weight, factor: float) -> None:
    found = task(SMOKER, pos_weight=weight).losses(OUTPUTS[:, :1], ONES)
    close(found, binary_cross_entropy(OUTPUTS[:, 0].numpy(), ONES.numpy(), factor))


@pytest.mark.parametrize(
    ("weight", "factors"),
    [(None, [1, 1, 1]), (3.0, [3, 3, 3]), ([0.5, 2, 7], [0.5, 2, 7]), ("balanced", [1, 9, 0.25])],
)
def test_multi_label_loss_is_the_mean_over_the_classes(weight, factors: list[float]) -> None:
    found = task(FLAGS, pos_weight=weight).losses(OUTPUTS, MANY)
    close(found, binary_cross_entropy(OUTPUTS.numpy(), MANY.numpy(), np.array(factors)).mean(axis=1))


def test_balanced_positives_follow_the_fitted_labels() -> None:
    fitted = task(SMOKER.fitted(torch.tensor([1.0] * 3 + [0.0] * 12)), pos_weight="balanced")
    assert fitted.loss.pos_weight.tolist() == pytest.approx([12 / 3])


def test_continuous_loss_is_of_standardised_labels_and_predictions_are_in_the_unit() -> None:
    mass = task(MASS)
    close(mass.losses(OUTPUTS[:, :1], MASSES), (OUTPUTS[:, 0].numpy() - (MASSES.numpy() - 2000) / 4) ** 2)
    close(mass.predictions(OUTPUTS[:, :1]), OUTPUTS[:, 0].numpy() * 4 + 2000)
    assert torch.equal(mass.metric_labels(MASSES), MASSES.double())


def test_large_numbers_that_differ_little_are_told_apart() -> None:
    seconds = 1_700_000_000 + torch.arange(1000, dtype=torch.float64) / 2
    each = task(Continuous("s").fitted(seconds))
    standardised = ((seconds - seconds.mean()) / seconds.std(correction=0))[:, None]
    for dtype, limit in ((torch.float64, 1e-18), (torch.float32, 1e-12), (torch.bfloat16, 1e-4)):
        outputs = standardised.to(dtype)
        assert each.losses(outputs, seconds).max() < limit
    assert (each.predictions(standardised.float()) - seconds).abs().max() < 1e-3
    for metric in each.metrics().values():
        metric.update(each.predictions(standardised.float()), each.metric_labels(seconds))
        assert metric.compute() < 1e-3


def test_statistics_of_the_unit_are_in_the_checkpoint() -> None:
    other = task(Continuous("kg"))
    other.load_state_dict(task(MASS).state_dict())
    assert other.predictions(torch.tensor([[1.0]])).tolist() == [2004.0]
    assert other.losses(torch.tensor([[0.0]]), torch.tensor([2008.0])).tolist() == [4.0]


@pytest.mark.parametrize(
    ("target", "config"),
    [(KINDS, {"class_weights": [1, 2, 3]}), (SMOKER, {"pos_weight": 2.0}), (FLAGS, {"pos_weight": "balanced"})],
)
def test_weights_of_classes_are_the_configurations_not_the_checkpoints(target: Target, config: dict) -> None:
    weighted = task(target, **config)
    assert weighted.state_dict() == {}
    assert [values.numel() for values in weighted.buffers()] == [target.outputs]  # but they move with the module


@dataclass(frozen=True)
class Celsius(Continuous):
    unit: str | None = "°C"


class Ranking(Target):
    outputs = label_shape = rule = None
    invalid = fitted = None


def test_task_of_a_users_own_target() -> None:
    assert list(task_of("it", Celsius(), TaskConfig()).decode(torch.zeros(1, 1))) == ["it (°C)"]
    with pytest.raises(ValueError, match=r"^data\.targets\.it: must be a Categorical, .* found Ranking$"):
        task_of("it", Ranking(), TaskConfig())


def test_half_precision_outputs_still_tell_units_apart() -> None:
    outputs = torch.tensor([[0.25], [0.5]], dtype=torch.bfloat16)
    assert task(MASS).predictions(outputs).tolist() == [2001.0, 2002.0]
    assert task(MASS).losses(outputs, torch.tensor([2001.01, 2002.0])).tolist() == pytest.approx(
        [0.0025**2, 0], rel=0.1
    )


@pytest.mark.parametrize(
    ("target", "labels", "dtypes"),
    [
        (KINDS, CLASSES, [torch.int32, torch.uint8, torch.float32]),
        (SMOKER, ONES, [torch.int64, torch.bool, torch.float64]),
        (FLAGS, MANY, [torch.int64, torch.bool, torch.float64]),
        (MASS, MASSES.long().float(), [torch.int64, torch.float64]),
    ],
    ids=TARGETS,
)
def test_labels_may_be_of_any_type_that_holds_them(target: Target, labels: Tensor, dtypes: list[torch.dtype]) -> None:
    outputs = OUTPUTS[:, : target.outputs]
    expected = task(target).losses(outputs, labels)
    for dtype in dtypes:
        found = task(target).losses(outputs, labels.to(dtype))
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("target", "labels", "loss", "expected"),
    [
        (MASS, MASSES, nn.SmoothL1Loss(reduction="none"),
         lambda o, y: nn.functional.smooth_l1_loss(o[:, 0], (y - 2000) / 4, reduction="none")),
        (SMOKER, ONES, nn.MSELoss(reduction="none"), lambda o, y: (o[:, 0] - y) ** 2),
        (KINDS, CLASSES, nn.MultiMarginLoss(reduction="none"),
         lambda o, y: nn.functional.multi_margin_loss(o, y, reduction="none")),
        (FLAGS, MANY, nn.L1Loss(reduction="none"), lambda o, y: (o - y).abs().mean(dim=1)),
    ],
    ids=["continuous", "binary", "categorical", "multi-label"],
)  # fmt: skip
def test_a_users_own_loss_is_used(target: Target, labels: Tensor, loss: nn.Module, expected: Callable) -> None:
    outputs = OUTPUTS[:, : target.outputs]
    torch.testing.assert_close(task(target, loss=loss).losses(outputs, labels), expected(outputs, labels))


class OneNumber(nn.Module):
    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs - labels).square().mean()


def test_a_loss_that_is_no_number_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^model\.tasks\.it\.loss: .* shape \(6,\), found \(\); .*`reduction: none`$"):
        task(MASS, loss=OneNumber()).losses(OUTPUTS[:, :1], MASSES)


REFUSED = [
    (KINDS, {"weight": -1.0}, "weight: must be finite and not negative, found -1.0"),
    (KINDS, {"label_smoothing": 1.0}, "label_smoothing: must be in [0, 1), found 1.0"),
    (KINDS, {"label_smoothing": -0.1}, "label_smoothing: must be in [0, 1), found -0.1"),
    (MASS, {"label_smoothing": 0.1}, "label_smoothing: is not for a target of kind Continuous, found 0.1"),
    (SMOKER, {"label_smoothing": 0.1}, "label_smoothing: is not for a target of kind Binary, found 0.1"),
    (FLAGS, {"class_weights": "balanced"}, "class_weights: is not for a target of kind MultiLabel, found balanced"),
    (KINDS, {"pos_weight": 2.0}, "pos_weight: is not for a target of kind Categorical, found 2.0"),
    (KINDS, {"pos_weight": 0.0}, "pos_weight: is not for a target of kind Categorical, found 0.0"),
    (KINDS, {"class_weights": [1.0, 2.0]}, "class_weights: must be 3 numbers that are not negative, found [1.0, 2.0]"),
    (KINDS, {"class_weights": []}, "class_weights: must have a number above 0, found []"),
    (KINDS, {"class_weights": [1, -2, 3]}, "class_weights: must be 3 numbers that are not negative, found [1, -2, 3]"),
    (SMOKER, {"pos_weight": -2.0}, "pos_weight: must be 1 numbers that are not negative, found [-2.0]"),
    (FLAGS, {"pos_weight": [1.0]}, "pos_weight: must be 3 numbers that are not negative, found [1.0]"),
    (Binary(positives=0.0), {"pos_weight": "balanced"},
     "pos_weight: 'balanced' needs a positive training row of every class, found shares [0.0]"),
    (MultiLabel(("a", "b"), (0.5, 0.0)), {"pos_weight": "balanced"},
     "pos_weight: 'balanced' needs a positive training row of every class, found shares [0.5, 0.0]"),
    (MASS, {"loss": nn.SmoothL1Loss()}, "loss: reduction must be 'none', found 'mean'"),
    (KINDS, {"loss": nn.CrossEntropyLoss(reduction="none"), "label_smoothing": 0.1},
     "label_smoothing: belongs to the default loss, but model.tasks.it.loss is given, found 0.1"),
    (MASS, {"metrics": {"loss": MeanAbsoluteError()}},
     "metrics: a name must be of letters, digits, '_' and '-', and not 'loss', found 'loss'"),
    (MASS, {"metrics": {"mae/kg": MeanAbsoluteError()}},
     "metrics: a name must be of letters, digits, '_' and '-', and not 'loss', found 'mae/kg'"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "config", "message"), REFUSED, ids=[message[:40] for _, _, message in REFUSED])
def test_refused_configuration(target: Target, config: dict, message: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # the whole message is compared
        task(target, **config)
    assert str(refused.value) == f"model.tasks.it.{message}"


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_weight_zero_is_a_weight(target: Target) -> None:
    assert task(target, weight=0.0).config.weight == 0


@pytest.mark.parametrize(
    ("target", "logits", "columns"),
    [
        (KINDS, [[0.0, 1.0, 0.0], [2.0, 0.0, 0.0]],
         {"it": ["dog", "cat"], "it_probability": [np.e / (np.e + 2), np.e**2 / (np.e**2 + 2)]}),
        (SMOKER, [[1.0], [-2.0]],
         {"it": ["smoker", "non-smoker"], "it_probability_smoker": [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(2))]}),
        (FLAGS, [[1.0, -1.0, 2.0], [-1.0, -1.0, -1.0]],
         {"it": ["odd|red", "|"],
          "it_probability_odd": [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))],
          "it_probability_big": [1 / (1 + np.exp(1)), 1 / (1 + np.exp(1))],
          "it_probability_red": [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(1))]}),
        (MASS, [[0.5], [-1.0]], {"it (kg)": [2002.0, 1996.0]}),
        (Continuous(None, mean=1.0, std=2.0), [[0.5], [-1.0]], {"it": [2.0, -1.0]}),
    ],
    ids=[*TARGETS, "no unit"],
)  # fmt: skip
def test_decoded_predictions_are_in_the_users_own_words(target: Target, logits: list, columns: dict) -> None:
    found = task(target).decode(torch.tensor(logits))
    assert list(found) == list(columns)
    for column, values in columns.items():
        assert found[column] == (values if isinstance(values[0], str) else pytest.approx(values, rel=1e-6))


@pytest.mark.parametrize(
    ("target", "metrics"),
    [(KINDS, ["accuracy"]), (SMOKER, ["accuracy", "f1"]), (FLAGS, ["accuracy", "f1"]), (MASS, ["mae", "rmse"])],
    ids=TARGETS,
)
def test_default_metrics(target: Target, metrics: list[str]) -> None:
    assert list(task(target).metrics()) == metrics


def test_a_users_own_metrics_replace_the_default_ones_and_share_no_state() -> None:
    given = {"mape": MeanAbsolutePercentageError(), "off-by": MeanAbsoluteError()}
    mass = task(MASS, metrics=given)
    one, two = mass.metrics(), mass.metrics()
    assert list(one) == ["mape", "off-by"]
    one["mape"].update(torch.tensor([3.0]), torch.tensor([2.0]))
    assert one["mape"].compute() == 0.5
    assert not two["mape"].update_called
    assert not given["mape"].update_called
    assert task(MASS, metrics={}).metrics() == {}
    macro = {"macro": MulticlassAccuracy(num_classes=3)}
    assert list(task(KINDS, metrics=macro).metrics()) == ["macro"]


def test_columns_of_two_tasks_must_differ() -> None:
    targets = {"species": KINDS, "species_probability": Continuous()}
    with pytest.raises(ValueError, match="found 'species_probability' of tasks 'species' and 'species_probability'"):
        MultiTaskModule(targets, (3,), MLP)
