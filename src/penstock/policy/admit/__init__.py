"""Who may enter: refusals before any work is spent."""
