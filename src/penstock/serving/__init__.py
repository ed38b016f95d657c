"""Everything that runs while ``penstock serve`` runs."""
