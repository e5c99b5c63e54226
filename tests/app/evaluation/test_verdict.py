"""What is said of a table: an effect, none, too few runs."""

import numpy as np

from app.evaluation import difference, verdicts


def test_an_effect_is_told_from_none_and_from_too_few_runs() -> None:
    draw = np.random.default_rng(0)
    baseline = 0.9 + 0.001 * draw.standard_normal(5)
    ours = {
        "better": baseline + 0.05,
        "worse": baseline - 0.05,
        "as good": 0.9 + 0.001 * draw.standard_normal(5),
        "undecided": 0.9 + 0.05 * draw.standard_normal(5),
    }
    table = {name: difference(each, baseline, higher_is_better=True) for name, each in ours.items()}
    assert verdicts(table, dict.fromkeys(table, 0.009)) == {name: name for name in table}
    alone = {"one": difference([0.99], baseline, higher_is_better=True)}
    assert verdicts(alone, {"one": 0.009}) == {"one": "undecided"}


def test_the_same_difference_decides_less_beside_many_others() -> None:
    clear = difference([0.91, 0.912, 0.914], [0.9, 0.902, 0.904], higher_is_better=True)
    assert 0.001 < clear.p < 0.01
    noise = {f"noise {i}": difference([0.9, 0.91, 0.92], [0.9, 0.91, 0.92], higher_is_better=True) for i in range(30)}
    assert verdicts({"it": clear}, {"it": 0.001}) == {"it": "better"}
    assert verdicts({"it": clear, **noise}, dict.fromkeys(["it", *noise], 0.001))["it"] == "undecided"


def test_two_names_of_one_variant_are_not_told_apart() -> None:
    """In 19 of 20 tables or more."""
    draw, wrong = np.random.default_rng(1), 0
    for _ in range(500):
        values = draw.standard_normal((2, 4, 3))
        table = {task: difference(values[0, task], values[1, task], higher_is_better=True) for task in range(4)}
        wrong += bool({"better", "worse"} & {*verdicts(table, dict.fromkeys(range(4), 0.01)).values()})
    assert wrong / 500 <= 0.05
