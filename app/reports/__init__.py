"""Pages, tables and pictures of data, layers and figures."""
