"""The content of reports, stated once: tables, notes and wording, with no terminal and no HTML."""
