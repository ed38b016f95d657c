"""Evidence that a replica's accelerators run in confidential mode: verification, and test
evidence."""
