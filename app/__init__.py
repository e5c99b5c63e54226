"""Composes data and models into a training run; the only room that knows Lightning's Trainer."""
