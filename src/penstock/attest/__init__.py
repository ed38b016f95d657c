"""Evidence that a replica's accelerators run in confidential mode: made for tests, and verified."""
