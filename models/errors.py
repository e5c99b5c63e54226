"""What a user can get wrong in a configuration."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 1000  # characters of a value that are shown


class ConfigurationError(ValueError):
    """A value of the configuration that cannot be: `<key>: <rule>, found <found>`.

    Args:
        key: of the configuration.
        rule: what must hold of its value.
        found: the value, as it is shown; left out where the rule says all.
    """

    def __init__(self, key: str, rule: str = "", found: object = ...) -> None:
        super().__init__(key, rule, found)
        self.key, self.rule, self.found = key, rule, found

    def __str__(self) -> str:
        """All of it on one line."""
        text = f"{self.key}: {self.rule}" if self.rule else self.key
        found = str(self.found)
        return text if self.found is ... else f"{text}, found {found[:LONGEST]}" + ("…" if found[LONGEST:] else "")


def near_it(word: str, names: Iterable[str], most: int = 3) -> str:
    """The end of a line that refuses a name: the names near it that there are, whatever their case, or nothing."""
    known = {name.lower(): name for name in names}
    begun = sorted((name for name in known if name.startswith(word.lower())), key=len)
    found = [known[each] for each in dict.fromkeys([*get_close_matches(word.lower(), known, most), *begun])]
    return f"; near it: {', '.join(found[:most])}" if found and word else ""
