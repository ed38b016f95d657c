"""The fleet file: read, checked, resolved to frozen values, written back."""
