"""Real engines that take turns on devices: who is loaded, who waits, who runs."""
