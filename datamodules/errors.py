"""What can be wrong with data, and with what the configuration says of them."""

from pathlib import Path

LONGEST = 1000  # characters of a value that are shown


class DataError(ValueError):
    """Data, or a key that configures them, that cannot be used: `<where>: <rule>, found <found>`.

    Args:
        where: The file and row, or the key of the configuration.
        rule: What must hold.
        found: The value, as it is shown; left out where the rule says all.
    """

    def __init__(self, where: str | Path, rule: str = "", found: object = ...) -> None:
        super().__init__(str(where), rule, found)
        self.where, self.rule, self.found = str(where), rule, found

    def __str__(self) -> str:
        """All of it on one line."""
        text = f"{self.where}: {self.rule}" if self.rule else self.where
        found = str(self.found)
        return text if self.found is ... else f"{text}, found {found[:LONGEST]}" + ("…" if found[LONGEST:] else "")


class UnreadableRowError(DataError):
    """The input of one row cannot be read: its file is missing or broken. The message names the row."""
