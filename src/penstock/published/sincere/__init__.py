"""SINCERE's runs again, under its strategies and under others."""
