"""The network: what is shared, the tasks' heads, and whose parameters are whose."""
