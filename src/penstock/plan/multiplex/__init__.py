"""What no residency policy can exceed, all arrivals known."""
