"""What a user can get wrong in a configuration."""

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
