"""Where samples come from and how batches of tasks are drawn."""
