"""Which tasks are to share a branch: rules that find a tree."""
