"""From T losses to gradients: the only place that calls autograd."""
