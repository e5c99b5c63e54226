"""What a schedule may say, and what its presets are."""

from dataclasses import replace

import pytest

from app.transfer import Phase, Preset, Progress, check_phases, phases_of

LAYERS = ["backbone.stem", "backbone.layer1", "backbone.layer2", "heads.left", "heads.right"]
PROBE = Phase(["heads.*"], until_epoch=2)
REST = Phase(["*"])


def refused(*phases: Phase, epochs: int | None = 4, steps: int | None = 40) -> str:
    with pytest.raises(ValueError, match="schedule") as caught:
        check_phases(list(phases), LAYERS, epochs, steps)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_schedule_that_can_be_run() -> None:
    check_phases([PROBE, replace(PROBE, until_epoch=3), REST], LAYERS, 4, 40)
    check_phases([replace(PROBE, until_epoch=None, patience=1, restore_best=True), REST], LAYERS, None, None)
    check_phases([replace(PROBE, until_epoch=None, until_step=39), REST], LAYERS, None, 40)


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (replace(PROBE, train=["backbone.leyer2"]), ["schedule[0].train", "'backbone.leyer2'", "backbone.layer2"]),
        (replace(PROBE, rates={"layer1*": 0.1}), ["schedule[0].rates", "'layer1*'", "backbone.layer1"]),
        (replace(PROBE, train=[]), ["schedule[0].train", "must name a layer", "[]"]),
        (replace(PROBE, rates={"heads.left": 0.0}), ["schedule[0].rates", "greater than 0", "0.0", "heads.left"]),
        (replace(PROBE, rates={"*": -1.0}), ["schedule[0].rates", "-1.0"]),
        (replace(PROBE, rates={"*": float("nan")}), ["schedule[0].rates", "nan"]),
        (replace(PROBE, until_epoch=4), ["schedule[0].until_epoch", "less than the run's 4 epochs", "found 4"]),
        (replace(PROBE, until_epoch=0), ["schedule[0].until_epoch", "greater than 0", "found 0"]),
        (replace(PROBE, until_step=40), ["schedule[0].until_step", "40 optimizer steps", "found 40"]),
        (replace(PROBE, until_epoch=None), ["schedule[0]", "until_epoch, until_step, patience", "none"]),
        (replace(PROBE, patience=0), ["schedule[0].patience", "at least 1", "found 0"]),
    ],
)
def test_refused_phase(phase: Phase, words: list[str]) -> None:
    message = refused(phase, REST)
    assert all(word in message for word in words), message


def test_refused_schedules() -> None:
    assert "must have a phase" in refused()
    assert "schedule[1].until_epoch: must be greater than 2" in refused(PROBE, PROBE, REST)
    assert "schedule[1].until_epoch: the last phase" in refused(PROBE, replace(REST, until_epoch=3))
    assert "schedule[0].restore_best" in refused(replace(REST, restore_best=True))


def test_ends_in_epochs_and_steps_are_compared() -> None:
    by_step = replace(PROBE, until_epoch=None, until_step=20)
    check_phases([by_step, replace(PROBE, until_epoch=3), REST], LAYERS, 4, 40, epoch_steps=10)
    with pytest.raises(ValueError, match=r"schedule\[1\]: must end after step 20, .* found 20"):
        check_phases([by_step, PROBE, REST], LAYERS, 4, 40, epoch_steps=10)


def test_the_last_factor_that_matches_counts() -> None:
    phase = Phase(["*"], rates={"backbone.*": 0.1, "backbone.layer2": 0.5})
    assert [phase.rate(layer) for layer in LAYERS] == [0.1, 0.1, 0.5, 1.0, 1.0]


def trained(schedule: Preset | str, epochs: int | None = 8) -> list[tuple[list[str], int | None]]:
    phases = phases_of(schedule, LAYERS, epochs)
    check_phases(phases, LAYERS, epochs, None)
    return [(phase.trained(LAYERS), phase.until_epoch) for phase in phases]


HEADS = LAYERS[3:]


def test_presets() -> None:
    assert trained("full") == [(LAYERS, None)]
    assert trained("linear_probe") == [(HEADS, None)]
    assert trained("freeze_then_unfreeze") == [(HEADS, 4), (LAYERS, None)]
    assert trained(Preset("freeze_then_unfreeze", epochs=[1])) == [(HEADS, 1), (LAYERS, None)]
    assert trained("gradual_unfreeze") == [(HEADS, 2), (LAYERS[2:], 4), (LAYERS[1:], 6), (LAYERS, None)]
    assert trained("gradual_unfreeze", epochs=2) == [(HEADS, 1), (LAYERS, None)]
    assert trained(Preset("gradual_unfreeze", phases=3)) == [(HEADS, 3), (LAYERS[1:], 5), (LAYERS, None)]
    assert trained(Preset("surgical", block="middle")) == [(LAYERS[1:2] + HEADS, None)]
    assert trained("surgical") == [(LAYERS[:1] + HEADS, None)]
    assert [phase.rate("backbone.stem") for phase in phases_of("lp_ft", LAYERS, 2)] == [1.0, 0.1]
    assert {phase.batch_norm for phase in phases_of(Preset("lp_ft", batch_norm="eval"), LAYERS, 2)} == {"eval"}


@pytest.mark.parametrize(
    ("schedule", "epochs", "words"),
    [
        (Preset("lp_ft"), None, ["trainer.max_epochs", "neither"]),
        (Preset("lp_ft"), 1, ["2 phases", "the run has 1 epochs"]),
        (Preset("gradual_unfreeze", phases=4), 3, ["4 phases", "the run has 3 epochs"]),
        (Preset("gradual_unfreeze", phases=5), 9, ["schedule.phases", "from 2 to 4", "found 5"]),
        (Preset("full", phases=2), 9, ["schedule.phases", "gradual_unfreeze alone"]),
        (Preset("full", block="last"), 9, ["schedule.block", "surgical alone"]),
        (Preset("gradual_unfreeze", phases=3, epochs=[1]), 9, ["schedule.epochs", "2 numbers", "[1]"]),
    ],
)
def test_refused_presets(schedule: Preset, epochs: int | None, words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^schedule") as caught:
        phases_of(schedule, LAYERS, epochs)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_phase_ends_with_the_first_of_its_ends() -> None:
    progress = Progress([replace(PROBE, until_step=10, patience=2), REST], higher_is_better=True)
    assert not progress.ended(step=9, epoch=1)
    assert progress.ended(step=10, epoch=1)
    assert progress.ended(step=9, epoch=2)
    assert progress.observe(0.5)
    assert not progress.observe(0.5)  # no better
    assert not progress.ended(step=9, epoch=1)
    assert not progress.observe(float("nan"))
    assert progress.ended(step=9, epoch=1)
    progress.advance(9)
    assert not progress.observe(float("nan"))
    assert progress.observe(0.1)  # better than none
    assert not progress.ended(step=10**6, epoch=10**6)  # the last lasts
    assert progress.stalled == 0


def test_a_better_value_starts_the_waiting_anew() -> None:
    progress = Progress([Phase(["*"], patience=2), REST], higher_is_better=False)
    assert [progress.observe(value) for value in (0.5, 0.6, 0.4, 0.45)] == [True, False, True, False]
    assert not progress.ended(0, 0)


def test_progress_of_a_longer_schedule_is_refused() -> None:
    progress = Progress([PROBE, replace(PROBE, until_epoch=3), REST], higher_is_better=True)
    progress.advance(10)
    progress.advance(20)
    with pytest.raises(ValueError, match="the checkpoint is in phase 3, found 2 phases"):
        Progress([PROBE, REST], higher_is_better=True).load_state_dict(progress.state_dict())
