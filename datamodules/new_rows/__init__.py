"""New rows for a network that is trained: what a user hands over, as a split without labels or with them."""

from datamodules.new_rows.given import split_of

__all__ = ["split_of"]
