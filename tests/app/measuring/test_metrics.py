"""Losses and metrics of an epoch against scikit-learn on all rows at once."""

import io

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)
from torch import Tensor
from torchmetrics import MeanAbsolutePercentageError, PearsonCorrCoef, R2Score
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from app.measuring.stage import StageMetrics
from app.tasks import Task, TaskConfig, task_of
from datamodules.targets import Binary, Categorical, Continuous, MultiLabel, Target
from models.by_name import ModulesByName

TARGETS: dict[str, Target] = {
    "kind": Categorical(("a", "b", "c", "d")),
    "smoker": Binary(),
    "flags": MultiLabel(("x", "y", "z")),
    "mass": Continuous("kg", mean=70.0, std=12.0),
}
SIZES = (7, 1, 20, 3)  # of unequal batches


def stage(of: str = "val", **configs: TaskConfig) -> tuple[ModulesByName[Task], StageMetrics]:
    tasks = ModulesByName[Task](
        {name: task_of(name, target, configs.get(name, TaskConfig())) for name, target in TARGETS.items()}
    )
    return tasks, StageMetrics(of, tasks)


def rows(size: int, generator: torch.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs and labels of a batch, classes unequally often."""
    outputs = {
        name: torch.randn(size, target.outputs, generator=generator).double() for name, target in TARGETS.items()
    }
    chance = torch.rand(size, 3, generator=generator)
    labels = {
        "kind": (chance[:, 0] * 2.5 + chance[:, 1]).long(),
        "smoker": (chance[:, 0] > 0.7).float(),
        "flags": (chance > torch.tensor([0.2, 0.5, 0.8])).float(),
        "mass": torch.randn(size, generator=generator) * 12 + 70,
    }
    return outputs, labels


def feed(metrics: StageMetrics, tasks: ModulesByName[Task], absent: tuple[tuple[str, ...], ...] = ((),) * 4, seed=0):
    """Show `metrics` the batches, as the module does; return each task's outputs and labels of all of them."""
    generator = torch.Generator().manual_seed(seed)
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in TARGETS}
    for size, without in zip(SIZES, absent, strict=True):
        outputs, labels = rows(size, generator)
        sums, count, shown = torch.zeros(4), torch.zeros(4, dtype=torch.long), {}
        for index, (name, task) in enumerate(tasks.items()):
            if name in without:
                continue
            seen[name].append((outputs[name], labels[name]))
            sums[index], count[index] = task.losses(outputs[name], labels[name]).sum(), size
            shown[name] = task.predictions(outputs[name]), task.metric_labels(labels[name])
        metrics.update(sums, count, shown)
    return {name: [torch.cat(part) for part in zip(*each, strict=True)] for name, each in seen.items() if each}


def expected(tasks: ModulesByName[Task], seen: dict, of: str = "val") -> dict[str, float]:
    """Every curve but the total, from all rows at once."""
    rows = {name: (outputs.numpy(), labels.numpy()) for name, (outputs, labels) in seen.items()}
    values = {name: figures(name, *rows[name], of) for name in rows}
    for name, each in seen.items():
        values[name]["loss"] = tasks[name].losses(*each).mean().item()
    return {f"{quantity}/{of}/{name}": value for name, each in values.items() for quantity, value in each.items()}


def figures(name: str, outputs: np.ndarray, labels: np.ndarray, of: str) -> dict[str, float]:
    """Quantity → value, by scikit-learn; in training those that cost little."""
    if name == "kind":
        guess = outputs.argmax(axis=1)
        more = {
            "balanced_accuracy": balanced_accuracy_score(labels, guess),
            "f1": f1_score(labels, guess, average="macro"),
        }
        return {"accuracy": accuracy_score(labels, guess)} | (more if of != "train" else {})
    if name == "mass":
        guess = outputs[:, 0] * 12 + 70
        errors = {"mae": mean_absolute_error(labels, guess), "rmse": root_mean_squared_error(labels, guess)}
        return errors | ({"r2": r2_score(labels, guess)} if of != "train" else {})
    outputs, average = (outputs[:, 0], "binary") if name == "smoker" else (outputs, "macro")
    values = {"accuracy": ((outputs > 0) == labels).mean(), "f1": f1_score(labels, outputs > 0, average=average)}
    if of != "train":
        values["auroc"] = roc_auc_score(labels, outputs)
        values["average_precision"] = average_precision_score(labels, outputs)
    return values


def floats(values: dict[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in values.items()}


@pytest.mark.parametrize("of", ["train", "val", "test"])
@pytest.mark.parametrize(
    "absent",
    [((), (), (), ()), (("kind",), (), ("kind", "mass"), ("flags",)), (("smoker",),) * 4],
    ids=["all tasks in every batch", "some tasks in some batches", "one task in no batch"],
)
def test_unequal_batches_give_what_all_rows_at_once_give(absent: tuple, of: str) -> None:
    tasks, metrics = stage(of)
    seen = feed(metrics, tasks, absent)
    wanted = expected(tasks, seen, of)
    wanted[f"loss/{of}/total"] = sum(wanted[f"loss/{of}/{name}"] for name in seen)
    for quantity in {name.split("/")[0] for name in metrics.higher_is_better() if name.endswith("/mean")}:
        each = [value for name, value in wanted.items() if name.startswith(f"{quantity}/")]
        wanted[f"{quantity}/{of}/mean"] = np.mean(each)
    found = floats(metrics.compute())
    assert found == pytest.approx(wanted, rel=1e-5)
    assert np.isfinite(list(found.values())).all()


def test_a_single_task_has_its_curves_too() -> None:
    task = task_of("mass", Continuous(), TaskConfig())
    metrics = StageMetrics("val", ModulesByName({"mass": task}))
    predicted, labels = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])
    metrics.update(torch.tensor([4.0]), torch.tensor([2]), {"mass": (predicted, labels)})
    values = floats(metrics.compute())
    assert values == {
        "loss/val/mass": 2.0,
        "loss/val/total": 2.0,
        "mae/val/mass": 1.0,
        "rmse/val/mass": pytest.approx(2**0.5),
        "r2/val/mass": 1 - 4 / 4.5,
    }


def test_total_is_weighted_and_leaves_auxiliary_tasks_out() -> None:
    tasks, metrics = stage(kind=TaskConfig(weight=2.0), smoker=TaskConfig(auxiliary=True), flags=TaskConfig(weight=0.0))
    feed(metrics, tasks)
    values = floats(metrics.compute())
    assert values["loss/val/total"] == pytest.approx(2 * values["loss/val/kind"] + values["loss/val/mass"])
    assert "loss/val/smoker" in values


def test_mean_is_of_the_metric_that_all_main_tasks_have() -> None:
    tasks, metrics = stage(mass=TaskConfig(auxiliary=True), kind=TaskConfig(weight=2.0))
    feed(metrics, tasks, ((), ("smoker",), (), ()))
    assert metrics.higher_is_better()["accuracy/val/mean"] is True
    values = floats(metrics.compute())
    each = [values[f"accuracy/val/{name}"] for name in ("kind", "smoker", "flags")]
    assert len(set(each)) == 3
    assert values["accuracy/val/mean"] == pytest.approx(sum(each) / 3)  # whatever their weights and rows
    assert [name for name in values if name.endswith("/mean")] == ["accuracy/val/mean", "f1/val/mean"]  # not auroc
    feed(metrics, tasks, (("kind", "smoker"),) * 4)
    values = floats(metrics.compute())
    assert values["accuracy/val/mean"] == values["accuracy/val/flags"]


def test_a_loss_gone_wrong_is_shown_and_spoils_the_total() -> None:
    tasks, metrics = stage()
    feed(metrics, tasks)
    metrics.update(torch.tensor([torch.nan, 0.0, 0.0, 0.0]), torch.tensor([3, 0, 0, 0]), {})
    values = floats(metrics.compute())
    assert np.isnan([values["loss/val/kind"], values["loss/val/total"]]).all()
    assert np.isfinite([values["accuracy/val/kind"], values["loss/val/mass"]]).all()


def test_total_of_no_rows_is_unknown() -> None:
    _, metrics = stage()
    metrics.update(torch.zeros(4), torch.zeros(4), {})
    values = floats(metrics.compute())
    assert list(values) == ["loss/val/total"]
    assert np.isnan(values["loss/val/total"])


def test_an_epoch_forgets_the_one_before() -> None:
    tasks, metrics = stage()
    feed(metrics, tasks, seed=1)
    first = floats(metrics.compute())
    feed(metrics, tasks, absent=(("kind",),) * 4, seed=2)
    assert not any(name.endswith("/kind") for name in metrics.compute())
    feed(metrics, tasks, seed=3)
    metrics.reset()
    feed(metrics, tasks, seed=1)
    assert floats(metrics.compute()) == first


def test_many_rows_of_small_losses_are_not_lost_in_a_large_sum() -> None:
    _, metrics = stage()
    metrics.update(torch.tensor([2.0**24, 0, 0, 0]), torch.tensor([1, 0, 0, 0]), {})
    for _ in range(64):
        metrics.losses.update(torch.tensor([1.0, 0, 0, 0]), torch.tensor([1, 0, 0, 0]))
    means, count = metrics.losses.compute()
    assert means[0] * count[0] == pytest.approx(2**24 + 64, rel=1e-12)


def test_a_users_own_metrics_give_their_own_curves() -> None:
    own = {"mape": MeanAbsolutePercentageError(), "r2": R2Score()}
    tasks, metrics = stage(mass=TaskConfig(metrics=own), kind=TaskConfig(metrics={}))
    outputs, labels = feed(metrics, tasks)["mass"]
    values = floats(metrics.compute())
    assert [name for name in values if name.endswith(("/mass", "/kind"))] == [
        "loss/val/kind", "loss/val/mass", "mape/val/mass", "r2/val/mass",
    ]  # fmt: skip
    error = (outputs[:, 0] * 12 + 70 - labels).abs() / labels.abs()
    assert values["mape/val/mass"] == pytest.approx(error.mean().item(), rel=1e-5)


def test_directions() -> None:
    tasks, metrics = stage(mass=TaskConfig(metrics={"mape": MeanAbsolutePercentageError(), "r2": R2Score()}))
    assert metrics.higher_is_better() == {
        **{f"loss/val/{name}": False for name in [*TARGETS, "total"]},
        "accuracy/val/kind": True, "balanced_accuracy/val/kind": True, "f1/val/kind": True,
        "accuracy/val/smoker": True, "f1/val/smoker": True, "auroc/val/smoker": True,
        "average_precision/val/smoker": True, "accuracy/val/flags": True, "f1/val/flags": True,
        "auroc/val/flags": True, "average_precision/val/flags": True, "mape/val/mass": False, "r2/val/mass": True,
    }  # fmt: skip
    feed(metrics, tasks)
    assert set(metrics.compute()) == set(metrics.higher_is_better())


def test_metrics_that_keep_every_prediction_are_refused_for_several_processes() -> None:
    counting, keeping = BinaryAUROC(thresholds=10), BinaryAUROC()
    _, metrics = stage(smoker=TaskConfig(metrics={"auroc": counting}))
    metrics.check_gatherable()
    _, metrics = stage(smoker=TaskConfig(metrics={"auroc": keeping}))
    with pytest.raises(
        ValueError, match=r"^model\.tasks\.smoker\.metrics\.auroc: .* found BinaryAUROC; .*`thresholds`"
    ):
        metrics.check_gatherable()


def read_back(metrics: StageMetrics) -> dict:
    """What `metrics` have summed up, out of a file."""
    file = io.BytesIO()
    torch.save(metrics.sums(), file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


KEPT = TaskConfig(metrics={"auroc": BinaryAUROC(), "again": BinaryAUROC()})


def test_an_epoch_goes_on_from_what_was_summed_up() -> None:
    tasks, whole = stage("train", smoker=KEPT)
    feed(whole, tasks, seed=1)
    sums = read_back(whole)
    feed(whole, tasks, seed=2)
    expected = floats(whole.compute())
    for _ in range(2):  # what was read is not changed by what is added to it
        tasks, resumed = stage("train", smoker=KEPT)
        resumed.go_on_from([sums])
        feed(resumed, tasks, seed=2)
        assert floats(resumed.compute()) == expected


def test_sums_do_not_follow_later_updates() -> None:
    tasks, metrics = stage("train")
    feed(metrics, tasks, seed=1)
    sums, expected = metrics.sums(), floats(metrics.compute())
    feed(metrics, tasks, seed=2)
    metrics.reset()
    metrics.go_on_from([sums])
    assert floats(metrics.compute()) == expected


def test_sums_of_several_processes_are_put_together() -> None:
    parts, seen = [], []
    for seed, absent in enumerate([((),) * 4, (("smoker",),) * 4, (tuple(TARGETS),) * 4]):  # the last had no rows
        tasks, metrics = stage("train")
        seen.append(feed(metrics, tasks, absent, seed=seed))
        parts.append(read_back(metrics))
    together = {
        name: [torch.cat(pieces) for pieces in zip(*(part[name] for part in seen if name in part), strict=True)]
        for name in TARGETS
    }
    wanted = expected(tasks, together, "train")
    _, metrics = stage("train")
    metrics.go_on_from(parts)
    found = floats(metrics.compute())
    assert found.pop("loss/train/total") == pytest.approx(sum(wanted[f"loss/train/{name}"] for name in TARGETS))
    assert found == pytest.approx(wanted, rel=1e-5)


def test_states_that_cannot_be_put_together_are_refused_in_mid_epoch_alone() -> None:
    pearson = TaskConfig(metrics={"r": PearsonCorrCoef()})
    tasks, metrics = stage("train", mass=pearson)
    ended = read_back(metrics)
    feed(metrics, tasks)
    part, value = read_back(metrics), metrics.compute()["r/train/mass"]
    _, metrics = stage("train", mass=pearson)
    metrics.go_on_from([ended, ended])
    metrics.go_on_from([part])
    assert metrics.compute()["r/train/mass"] == value
    with pytest.raises(ValueError, match=r"^trainer\.devices: .*collections\.mass\.r, .*found fewer"):
        metrics.go_on_from([part, part])


def test_a_metric_that_was_changed_starts_anew() -> None:
    tasks, before = stage("train", smoker=TaskConfig(metrics={"auroc": BinaryAUROC(thresholds=10)}))
    feed(before, tasks, seed=1)
    tasks, after = stage("train", smoker=TaskConfig(metrics={"auroc": BinaryAUROC(thresholds=20)}))
    with pytest.warns(UserWarning, match="no such metric as collections.smoker.auroc; it starts anew"):
        after.go_on_from([read_back(before)])
    feed(after, tasks, seed=2)
    tasks, fresh = stage("train", smoker=TaskConfig(metrics={"auroc": BinaryAUROC(thresholds=20)}))
    feed(fresh, tasks, seed=2)
    assert after.compute()["auroc/train/smoker"] == fresh.compute()["auroc/train/smoker"]


def test_metrics_that_agree_in_the_first_batch_are_kept_apart() -> None:
    strict = TaskConfig(metrics={"likely": BinaryAccuracy(threshold=0.5), "sure": BinaryAccuracy(threshold=0.9)})
    _, metrics = stage(smoker=strict)
    one = torch.zeros(4), torch.tensor([0, 1, 0, 0])
    metrics.update(*one, {"smoker": (torch.tensor([0.99]), torch.tensor([1]))})
    metrics.update(*one, {"smoker": (torch.tensor([0.7]), torch.tensor([1]))})
    values = floats(metrics.compute())
    assert (values["likely/val/smoker"], values["sure/val/smoker"]) == (1.0, 0.5)
