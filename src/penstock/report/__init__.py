"""Reports: files, terminal tables and one self-contained HTML page per run."""
