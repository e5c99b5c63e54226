"""What follows a step of the optimizer comes in one order, and only where the weights have moved."""

import torch
from torch import nn

from app.training.after_step import AfterStep
from app.training.penalties import Penalties


def stepped(infinite: bool, **options) -> list[str]:
    """What was called, of both acts, by one step under a scaler of fp16."""
    parameter, called = nn.Parameter(torch.ones(2)), []
    optimizer, scaler = torch.optim.SGD([parameter], lr=0.1, **options), torch.amp.GradScaler("cpu")
    after = AfterStep()
    after.add("average", lambda: called.append(f"average {parameter[0].item():.1f}"))
    after.add("second_look", lambda: called.append("second look"))
    after.follow(optimizer)
    parameter.grad = scaler.scale(torch.full((2,), torch.inf if infinite else 2.0))
    scaler.step(optimizer)
    return called


def test_acts_come_in_their_order_after_the_weights_have_moved() -> None:
    assert stepped(infinite=False) == ["second look", "average 0.8"]
    assert stepped(infinite=False, fused=True) == ["second look", "average 0.8"]


def test_nothing_follows_a_step_that_the_scaler_skips() -> None:
    assert stepped(infinite=True) == []
    assert stepped(infinite=True, fused=True) == []


def test_penalties_pull_at_what_has_a_gradient_at_the_losses_scale() -> None:
    moved, frozen = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))

    class Decay:
        def terms(self):
            yield from ((parameter, parameter, 0.5) for parameter in (moved, frozen))

    penalties, optimizer = Penalties(), torch.optim.SGD([moved, frozen], lr=0.1)
    penalties.add("decay", Decay())
    moved.grad = torch.ones(2)
    penalties.add_gradients(optimizer, None)
    assert moved.grad.tolist() == [1.5, 1.5]
    assert frozen.grad is None
    fused, scaler = torch.optim.SGD([moved, frozen], lr=0.1, fused=True), torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(torch.ones(()))
    moved.grad = torch.full((2,), 8.0)
    penalties.add_gradients(fused, scaler)  # which divides by the scale in its step
    assert moved.grad.tolist() == [12.0, 12.0]
