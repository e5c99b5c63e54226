"""A batch moves as a whole."""

import pytest
import torch

from datamodules.batch import MultiTaskBatch, map_inputs


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
