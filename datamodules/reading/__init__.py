"""Rows → tensors: transforms, checks, batches."""
