"""Step times composed from kernel tables, checked against the tables and against Vidur."""
