"""The figures of a stage: losses, metrics, and what balancing showed."""
