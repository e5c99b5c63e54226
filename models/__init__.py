"""Networks: backbones cut into stages, heads that read them, and what tasks share of them. Plain torch modules."""
