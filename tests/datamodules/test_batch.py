"""A batch moves as a whole."""

import pytest
import torch
from torch.multiprocessing import SimpleQueue

from datamodules.batch import SMALL, MultiTaskBatch, map_inputs


@pytest.mark.parametrize("inputs", [torch.ones(3, 2), {"image": torch.ones(3, 2), "text": torch.zeros(3, 5)}])
def test_everything_moves_with_the_batch(inputs) -> None:
    batch = MultiTaskBatch(
        inputs, {"a": torch.ones(2)}, {"a": torch.tensor([0, 2])}, {"a": 7, "b": 0}, torch.tensor([5, 4, 9])
    )
    moved = batch.to("meta")
    parts = [*(moved.inputs.values() if isinstance(inputs, dict) else [moved.inputs]), moved.targets["a"]]
    parts += [moved.rows["a"], moved.ids]
    assert all(part.is_meta for part in parts)
    assert [tuple(part.shape) for part in parts[-3:]] == [(2,), (2,), (3,)]
    assert moved.counts == {"a": 7, "b": 0}
    assert batch.ids.tolist() == [5, 4, 9]
    same = batch.to("cpu")
    assert same.inputs is inputs or all(torch.equal(same.inputs[name], inputs[name]) for name in inputs)


def test_map_inputs_goes_modality_by_modality() -> None:
    one, two = torch.ones(2), torch.full((2,), 2.0)
    assert map_inputs(torch.add, one, two).tolist() == [3, 3]
    added = map_inputs(torch.sub, {"x": one, "y": two}, {"y": one, "x": two})
    assert {name: value.tolist() for name, value in added.items()} == {"x": [-1, -1], "y": [1, 1]}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.bool])
def test_a_batch_arrives_as_a_worker_sent_it(dtype: torch.dtype) -> None:
    """Only what is large lies in shared memory: a file there costs as much as to decode an image."""
    inputs = {"image": torch.rand(SMALL), "features": torch.rand(3, 5)}
    target, none = torch.tensor([0, 1]).to(dtype), torch.empty(0, dtype=torch.int64)
    queue = SimpleQueue()
    queue.put(MultiTaskBatch(inputs, {"a": target}, {"a": torch.tensor([0, 2])}, {"a": 7}, none, ["x"]))
    got = queue.get()
    assert torch.equal(got.targets["a"], target)
    assert got.targets["a"].dtype == dtype
    assert (got.rows["a"].tolist(), got.ids.tolist(), got.ids.dtype) == ([0, 2], [], torch.int64)
    assert all(torch.equal(got.inputs[name], x) for name, x in inputs.items())
    assert (got.inputs["image"].is_shared(), got.inputs["features"].is_shared()) == (True, False)
    assert (got.counts, got.skipped) == ({"a": 7}, ["x"])
