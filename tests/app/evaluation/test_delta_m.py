"""Δm against published rows, and its interval against draws."""

import numpy as np
import pytest

from app.evaluation import delta_m

NYU = {
    "seg": ("miou", "pixel"),
    "depth": ("abs", "rel"),
    "normal": ("mean", "median", "within_11", "within_22", "within_30"),
}
HIGHER = {"miou": True, "pixel": True, "abs": False, "rel": False, "mean": False, "median": False,
          "within_11": True, "within_22": True, "within_30": True}  # fmt: skip
STL = "38.30 63.76 .6754 .2780 25.01 19.21 30.14 57.20 69.15"
ROWS = {  # printed by Nash-MTL (2022), table 2, and FAMO (2023), table 1: the drop over nine metrics
    "LS": ("39.29 65.33 .5493 .2263 28.15 23.96 22.09 47.50 61.08", 5.59),
    "SI": ("38.45 64.27 .5354 .2201 27.60 23.37 22.53 48.57 62.32", 4.39),
    "RLW": ("37.17 63.77 .5759 .2410 28.27 24.18 22.26 47.05 60.62", 7.78),
    "DWA": ("39.11 65.31 .5510 .2285 27.61 23.18 24.17 50.18 62.39", 3.57),
    "UW": ("36.87 63.17 .5446 .2260 27.04 22.61 23.54 49.05 63.65", 4.05),
    "MGDA": ("30.47 59.90 .6070 .2555 24.88 19.45 29.18 56.88 69.36", 1.38),
    "PCGrad": ("38.06 64.64 .5550 .2325 27.41 22.80 23.86 49.83 63.14", 3.97),
    "GradDrop": ("39.39 65.12 .5455 .2279 27.48 22.96 23.38 49.44 62.87", 3.58),
    "CAGrad": ("39.79 65.49 .5486 .2250 26.31 21.58 25.61 52.36 65.58", 0.20),
    "IMTL-G": ("39.35 65.60 .5426 .2256 26.02 21.19 26.20 53.13 66.24", -0.60),  # printed -0.76, which its row is not
    "Nash-MTL": ("40.13 65.93 .5261 .2171 25.26 20.08 28.40 55.47 68.15", -4.04),
    "FAMO": ("38.88 64.90 .5474 .2194 25.06 19.57 29.21 56.61 68.98", -4.10),
}
PER_TASK = {"LS": 0.88, "MGDA": -1.66, "CAGrad": 4.33, "Nash-MTL": 7.65, "FAMO": 6.79}
DB = "53.50 75.39 .3926 .1605 21.99 15.16 39.04 65.00 75.16"
DB_ROWS = {  # printed by DB-MTL (2023), table 1: the gain, over tasks
    "EW": ("53.93 75.53 .3825 .1577 23.57 17.01 35.04 60.99 72.05", -1.78),
    "GLS": ("54.59 76.06 .3785 .1555 22.71 16.07 36.89 63.11 73.81", 0.30),
    "RLW": ("54.04 75.58 .3827 .1588 23.07 16.49 36.12 62.08 72.94", -1.10),
    "UW": ("54.29 75.64 .3815 .1583 23.48 16.92 35.26 61.17 72.21", -1.52),
    "DWA": ("54.06 75.64 .3820 .1564 23.70 17.11 34.90 60.74 71.81", -1.71),
    "MGDA": ("53.52 74.76 .3852 .1566 22.74 16.00 37.12 63.22 73.84", -0.64),
    "GradNorm": ("53.91 75.38 .3842 .1571 23.17 16.62 35.80 61.90 72.84", -1.24),
    "PCGrad": ("53.94 75.62 .3804 .1578 23.52 16.93 35.19 61.17 72.19", -1.57),
    "CAGrad": ("53.97 75.54 .3885 .1588 22.47 15.71 37.77 63.82 74.30", -0.27),
    "Nash-MTL": ("53.41 74.95 .3867 .1612 22.57 15.94 37.30 63.40 74.09", -1.01),
    "Aligned-MTL": ("52.94 75.00 .3884 .1570 22.65 16.07 36.88 63.18 73.94", -0.98),
    "IMTL": ("53.63 75.44 .3868 .1592 22.58 15.85 37.44 63.52 74.09", -0.57),
    "DB-MTL": ("53.92 75.60 .3768 .1557 21.97 15.37 38.43 64.81 75.24", 1.15),
}
CITY = {"seg": ("miou", "pixel"), "depth": ("abs", "rel")}
CITY_ROWS = {  # of Nash-MTL and FAMO; .0125 has three digits: Nash-MTL is printed 6.82, LS 22.60
    "LS": ("75.18 93.49 .0155 46.77", 22.62),
    "UW": ("72.02 92.85 .0140 30.13", 5.88),
    "FAMO": ("74.54 93.29 .0145 32.59", 8.13),
    "Nash-MTL": ("75.41 93.66 .0129 35.02", 6.72),
}


def figures(tasks: dict[str, tuple[str, ...]], row: str) -> dict[str, dict[str, list[float]]]:
    values = iter(map(float, row.split()))
    return {task: {metric: [next(values)] for metric in metrics} for task, metrics in tasks.items()}


@pytest.mark.parametrize("method", ROWS)
def test_drop_over_metrics_is_the_printed_one(method: str) -> None:
    row, printed = ROWS[method]
    found = delta_m(figures(NYU, row), figures(NYU, STL), HIGHER, average="metrics")
    assert -found.estimate == pytest.approx(printed, abs=0.02)
    assert (found.low, found.high, found.p) == (None, None, None)  # of a single run


@pytest.mark.parametrize("method", PER_TASK)
def test_gain_over_tasks_of_the_same_rows(method: str) -> None:
    found = delta_m(figures(NYU, ROWS[method][0]), figures(NYU, STL), HIGHER)
    assert found.estimate == pytest.approx(PER_TASK[method], abs=0.02)


@pytest.mark.parametrize("method", DB_ROWS)
def test_gain_over_tasks_is_the_printed_one(method: str) -> None:
    row, printed = DB_ROWS[method]
    assert delta_m(figures(NYU, row), figures(NYU, DB), HIGHER).estimate == pytest.approx(printed, abs=0.02)


@pytest.mark.parametrize("method", CITY_ROWS)
def test_averages_agree_where_tasks_have_as_many_metrics(method: str) -> None:
    row, drop = CITY_ROWS[method]
    ours, baseline = figures(CITY, row), figures(CITY, "74.01 93.16 .0125 27.77")
    over_tasks, over_metrics = (delta_m(ours, baseline, HIGHER, each).estimate for each in ("tasks", "metrics"))
    assert over_tasks == pytest.approx(over_metrics)
    assert -over_tasks == pytest.approx(drop, abs=0.02)


def test_a_baseline_of_zero_has_none() -> None:
    assert delta_m({"a": {"r2": [0.5, 0.6]}}, {"a": {"r2": [-0.1, 0.1]}}, {"r2": True}) is None


@pytest.mark.parametrize("one_run_for_all", [False, True])
@pytest.mark.parametrize("runs", [3, 5, 10])
def test_interval_covers_the_truth(runs: int, one_run_for_all: bool) -> None:
    draw, draws = np.random.default_rng(0), 1500
    truth = {"a": (80.0, 82.0), "b": (0.5, 0.4)}  # of the baseline and the variant
    higher = {"accuracy": True, "error": False}
    metric = {"a": "accuracy", "b": "error"}
    expected = 100 / 2 * (2 / 80 + 0.1 / 0.5)
    covered = 0
    for _ in range(draws):
        both = [
            {
                task: {metric[task]: means[which] * (1 + 0.02 * draw.standard_normal(runs))}
                for task, means in truth.items()
            }
            for which in (0, 1)
        ]
        found = delta_m(both[1], both[0], higher, one_run_for_all=one_run_for_all)
        covered += found.low <= expected <= found.high
    assert 0.93 <= covered / draws <= 0.985
