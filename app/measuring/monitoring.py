"""Which direction of a curve is the better one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from models.errors import ConfigurationError

Mode = Literal["min", "max"]


def direction(monitor: str, mode: Mode | None, directions: Mapping[str, bool | None]) -> bool:
    """Whether more of the curve `monitor` is better: by the `mode` that the user gives, or else by what is known of it.

    Args:
        monitor: Name of the curve.
        mode: The option `monitor_mode`.
        directions: Curve → whether more of it is better, None where its metric does not say.

    Raises:
        ValueError: There is no such curve, or nobody says which direction is better.
    """
    if monitor not in directions:
        raise ConfigurationError("monitor", f"must be one of {', '.join(directions)}", repr(monitor))
    higher = mode == "max" if mode is not None else directions[monitor]
    if higher is None:
        raise ConfigurationError(
            "monitor_mode", f"must be min or max for {monitor}, whose metric does not say which is better", "null"
        )
    return higher
