"""Reports in a terminal; ``rich`` is imported only when something is printed."""
