"""Reports: files, terminal tables and one HTML page per run."""
