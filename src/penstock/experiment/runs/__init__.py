"""Kept runs: which there were, with their key figures and the folders of their files.

Start with ``kept`` (an entry) and ``store`` (the SQLite file of all entries).
"""
