"""What every dataset format gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from datamodules.contract import Columns
from datamodules.errors import DataError
from datamodules.sources.folded import folded_splits
from datamodules.sources.split import Split, SplitName
from datamodules.splits.folds import Folds
from datamodules.targets import Target


class Source(ABC):
    """A dataset: the targets that it carries, and its three splits.

    Attributes:
        targets: task → what its label is.
        columns: Where a table has what the network takes, as far as this source knows.
    """

    targets: dict[str, Target]
    columns: Columns | None = None

    @abstractmethod
    def split(self, name: SplitName) -> Split:
        """The rows for training ("train"), validation ("val") or test ("test")."""

    def folded(self, folds: Folds) -> Source:
        """This source with a fold of its rows for training and validation in place of those two splits.

        A source whose inputs hang on what the training split is, such as by its mean, has its own, as has one whose
        rows share what they are made of.

        Raises:
            ValueError: There are more folds than rows or groups.
        """
        return FoldedSource(self, folds)

    def aligned(self, name: str, sources: Mapping[str, Source]) -> Source:
        """This source as it is used in one run with others: a source that encodes its inputs does so as they do.

        Args:
            name: What this source is called.
            sources: All sources of the run, this one included.

        Raises:
            ValueError: They cannot be encoded alike.
        """
        return self


class FoldedSource(Source):
    """Any source, with a fold for validation and the other folds for training.

    Args:
        source: The source.
        folds: Which fold.

    Raises:
        ValueError: There are more folds than rows or groups.
    """

    def __init__(self, source: Source, folds: Folds) -> None:
        self.targets, self.columns = source.targets, source.columns
        given: dict[SplitName, Split] = {"train": source.split("train"), "val": source.split("val")}
        self._splits = {**folded_splits(given, source.targets, folds), "test": source.split("test")}

    def split(self, name: SplitName) -> Split:
        """Views of the rows of the source."""
        return self._splits[name]


def fold_sources(sources: Mapping[str, Source], folds: Folds, targets: Mapping[str, Target]) -> dict[str, Source]:
    """The sources with fold `folds.fold` for validation.

    Raises:
        ValueError: There is no such fold or task with classes, or a source has too few rows.
    """
    folds.check(targets)
    folded = {}
    for name, source in sources.items():
        try:
            folded[name] = source.folded(folds)
        except DataError as error:
            raise DataError(f"data.sources.{name}", str(error)) from error
    return folded


def joined_columns(sources: Iterable[Source]) -> Columns:
    """Where a table has what a network takes that is trained on all sources; those of features are alike."""
    known = [source.columns for source in sources if source.columns is not None]
    image = next((columns.image for columns in known if columns.image is not None), None)
    features = next((columns.features for columns in known if columns.features), ())
    targets = {task: column for columns in reversed(known) for task, column in columns.targets.items()}
    return Columns(image, next((columns.mode for columns in known), None), features, targets)


def align_sources(sources: Mapping[str, Source]) -> dict[str, Source]:
    """The sources of a run, each as it is used with the others.

    Raises:
        ValueError: They cannot be encoded alike.
    """
    return {name: source.aligned(name, sources) for name, source in sources.items()}
