"""Random numbers that a step draws anew: there is no generator to save."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Draw at random what every rank draws in this step, also after a resume; torch's own generators go on as before.

    Args:
        seed: The run's.
        step: Number of the step.
        device: Whose generator is seeded too, if it has one.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1)[0]))
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
