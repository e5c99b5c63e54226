"""What is kept of a validation or test gives the same however it is divided over batches and processes."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, precision_recall_fscore_support, r2_score
from torch import Tensor

from app.measuring.stage import StageMetrics
from app.tasks import TaskConfig, task_of
from app.tasks.class_counts import MOST_CLASSES
from app.tasks.evaluation import Evaluated, Evaluation, LabelCounts
from datamodules.targets import Binary, Categorical, Continuous, MultiLabel, Target
from models.by_name import ModulesByName

TARGETS: dict[str, Target] = {
    "kind": Categorical(("a", "b", "c", "d")),
    "many": Categorical(tuple(map(str, range(MOST_CLASSES + 1)))),
    "sick": Binary(),
    "flags": MultiLabel(("x", "y", "z")),
    "mass": Continuous("kg", mean=70.0, std=12.0),
}


def rows(target: Target, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Outputs and labels, some classes rare and one without a row."""
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(size, target.outputs, generator=generator)
    chance = torch.rand(size, 3, generator=generator)
    match target:
        case Categorical():
            return outputs, (chance[:, 0] ** 2 * (len(target.classes) - 1)).long()
        case Binary():
            return outputs, (chance[:, 0] > 0.8).float()
        case MultiLabel():
            return outputs, (chance > torch.tensor([0.3, 0.9, 1.0])).float()
    return outputs, torch.randn(size, generator=generator).double() * 12 + 70


def shown(
    name: str, size: int, config: TaskConfig | None = None, parts: int = 1
) -> tuple[Evaluation, list[Evaluation]]:
    """An evaluation of all rows at once, and several of some each."""
    task = task_of(name, TARGETS[name], config or TaskConfig())
    predicted, labels = task.measured(*rows(TARGETS[name], size))
    evaluations = [task.evaluation() for _ in range(parts + 1)]
    evaluations[0].update(predicted, labels)
    for number, batch in enumerate(torch.arange(size).split(7)):
        evaluations[1 + number % parts].update(predicted[batch], labels[batch])
    return evaluations[0], evaluations[1:]


def compared(evaluated: Evaluated) -> Iterator[tuple[str, list[float]]]:
    yield from ((name, value.tolist()) for name, value in evaluated.figures.items())
    if evaluated.counts is not None:
        counts = evaluated.counts
        for part in (counts.support, counts.predicted, counts.hits, counts.matrix):
            yield "counts", [] if part is None else part.tolist()


@pytest.mark.parametrize("name", TARGETS)
def test_batches_and_processes_do_not_matter_nor_one_without_rows(name: str) -> None:
    whole, parts = shown(name, 100, parts=3)
    states = [part.state() for part in parts]
    expected = dict(compared(whole.evaluated([whole.state()])))
    found = dict(compared(whole.evaluated([(), *states, ()])))
    assert found.keys() == expected.keys()
    assert any(key != "counts" for key in expected)
    for key, value in expected.items():
        assert np.allclose(found[key], value, rtol=1e-12, atol=0)
    whole.reset()
    assert whole.state() == ()


def test_rows_are_kept_in_few_bytes_and_classes_in_none() -> None:
    bytes_of = {}
    for name in TARGETS:
        states = [shown(name, size)[0].state() for size in (100, 200)]
        small, large = (sum(x.numel() * x.element_size() for x in state) for state in states)
        bytes_of[name] = (large - small) / 100
    assert bytes_of == {"kind": 0, "many": 0, "sick": 9, "flags": 15, "mass": 0}


@pytest.mark.parametrize("name", ["kind", "many", "sick"])
def test_counts_are_those_of_scikit_learn(name: str) -> None:
    target = TARGETS[name]
    outputs, labels = rows(target, 200)
    evaluation = shown(name, 200)[0]
    counts = evaluation.evaluated([evaluation.state()]).counts
    assert counts is not None
    classes = range(len(target.class_names or ()))
    said = outputs.argmax(1) if name != "sick" else outputs[:, 0] > 0
    parts = precision_recall_fscore_support(labels, said, labels=classes, zero_division=np.nan)
    for found, expected in zip((counts.precision, counts.recall, counts.f1, counts.support), parts, strict=True):
        assert np.allclose(found, expected, equal_nan=True)
    assert counts.rows == 200
    assert (counts.matrix is None) == (name == "many")
    if counts.matrix is not None:
        assert (counts.matrix.numpy() == confusion_matrix(labels, said, labels=classes)).all()


def test_a_class_that_is_predicted_and_does_not_occur_is_no_part_of_the_balance() -> None:
    task = task_of("kind", TARGETS["kind"], TaskConfig())
    evaluation = task.evaluation()
    labels, said = torch.tensor([0, 0, 1]), torch.tensor([0, 3, 1])
    evaluation.update(torch.eye(4)[said], labels)
    figures = evaluation.evaluated([evaluation.state()]).figures
    assert figures["balanced_accuracy"].item() == pytest.approx(0.75) == balanced_accuracy_score(labels, said)
    assert figures["f1"].item() == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_classes_of_several_labels_that_all_rows_have_or_lack_are_no_part_of_the_mean() -> None:
    evaluation = task_of("flags", TARGETS["flags"], TaskConfig()).evaluation()
    evaluation.update(torch.rand(5, 3), torch.tensor([[0, 1, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0], [1, 1, 0]]))
    alone = evaluation.evaluated([evaluation.state()]).figures
    assert alone.keys() == {"auroc", "average_precision"}
    evaluation.reset()
    evaluation.update(torch.rand(2, 3), torch.ones(2, 3))
    assert evaluation.evaluated([evaluation.state()]).figures == {}


def test_labels_that_are_far_from_zero_lose_no_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = 1e12 + torch.randn(1000, generator=generator, dtype=torch.float64)
    predicted = labels + 0.5 * torch.randn(1000, generator=generator, dtype=torch.float64)
    evaluation = task_of("mass", TARGETS["mass"], TaskConfig()).evaluation()
    for batch in torch.arange(1000).split(64):
        evaluation.update(predicted[batch], labels[batch])
    found = evaluation.evaluated([evaluation.state()]).figures["r2"]
    assert found.item() == pytest.approx(r2_score(labels - 1e12, predicted - 1e12), rel=1e-12)


def test_labels_that_are_all_equal_explain_nothing() -> None:
    evaluation = task_of("mass", TARGETS["mass"], TaskConfig()).evaluation()
    for size in (3, 7):
        evaluation.update(torch.rand(size).double(), torch.full((size,), 0.1, dtype=torch.float64))
    assert evaluation.evaluated([evaluation.state(), evaluation.state()]).figures == {}


def test_metrics_of_the_users_are_in_place_of_the_figures_and_counts_stay() -> None:
    for name, target in TARGETS.items():
        task = task_of(name, target, TaskConfig(metrics={}))
        metrics = StageMetrics("test", ModulesByName({name: task}))
        predicted, labels = task.measured(*rows(target, 50))
        metrics.update(torch.ones(1), torch.tensor([50]), {name: (predicted, labels)})
        assert metrics.compute().keys() == {f"loss/test/{name}", "loss/test/total"} == set(metrics.higher_is_better())
        assert (name in metrics.counts) == (name != "mass")
    assert isinstance(task_of("flags", TARGETS["flags"], TaskConfig(metrics={})).evaluation(), LabelCounts)


def test_a_binary_task_is_evaluated_by_what_the_validation_sets() -> None:
    task = task_of("sick", Binary(), TaskConfig(threshold="balanced_accuracy", calibrate=True))
    metrics = StageMetrics("val", ModulesByName({"sick": task}))
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(400, generator=generator) < 0.05).float()
    outputs = torch.randn(400, 1, generator=generator) + labels[:, None] * 2 - 4
    for decide in (False, True, False):
        metrics.update(torch.ones(1), torch.tensor([400]), {"sick": task.measured(outputs, labels)})
        values = metrics.compute(decide)
        said = torch.tensor([name == "yes" for name in task.decode(outputs)["sick"]])
        assert values["accuracy/val/sick"].item() == pytest.approx((said == labels).double().mean().item())
        assert metrics.counts["sick"].predicted.tolist() == [int((~said).sum()), int(said.sum())]
        assert said.any() == (float(task.decision.threshold) != 0.5)
    assert balanced_accuracy_score(labels, said) > 0.7
