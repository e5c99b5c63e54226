"""The table at the end of a run."""

from rich.console import Console

from app.reports.figures import by_task, table

VALUES = {
    "loss/test/left": 0.5, "loss/test/sum": 1.0, "loss/test/total": 1.5, "loss/val/left": 0.25,
    "accuracy/test/left": 0.9, "mae/test/sum": 12.34567, "epoch": 3.0, "a/test": 1.0, "a/b/test/c": 1.0,
}  # fmt: skip


def test_curves_are_regrouped_by_task_and_what_is_no_curve_is_left_out() -> None:
    assert by_task(VALUES, "test") == {"left": {"loss": 0.5, "accuracy": 0.9}, "sum": {"loss": 1.0, "mae": 12.34567}}
    assert by_task(VALUES, "val") == {"left": {"loss": 0.25}}
    assert by_task(VALUES, "train") == {}


def shown(values: dict[str, float]) -> list[list[str]]:
    """The cells of a table on 80 columns."""
    console = Console(width=80, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(table(by_task(values, "test"), title="test"))
    title, _, head, _, *lines, _ = capture.get().splitlines()
    assert title.strip() == "test"
    return [[cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")] for line in [head, *lines]]


def test_table_has_a_row_a_task_and_a_column_a_quantity() -> None:
    assert shown(VALUES) == [
        ["task", "loss", "accuracy", "mae"],
        ["left", "0.5000", "0.9000", ""],
        ["sum", "1.0000", "", "12.3457"],
    ]


def test_more_quantities_than_fit_are_the_rows() -> None:
    many = {f"quantity_{number}/test/left": float(number) for number in range(10)}
    cells = shown({**many, "quantity_3/test/right": 0.25})
    assert cells[0] == ["", "left", "right"]
    assert cells[4] == ["quantity_3", "3.0000", "0.2500"]
    assert cells[-1] == ["quantity_9", "9.0000", ""]


def test_long_names_of_many_tasks_are_on_two_lines() -> None:
    quantities = ("loss", "accuracy", "balanced_accuracy", "f1", "average_precision", "auroc")
    values = {f"{quantity}/test/task_{number}": 0.5 for quantity in quantities for number in range(9)}
    console = Console(width=80, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(table(by_task(values, "test"), title="test"))
    assert len(capture.get().splitlines()) == 15
    assert "…" not in capture.get()
