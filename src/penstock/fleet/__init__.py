"""The fleet file: reading, checking, resolving to frozen values, writing."""
