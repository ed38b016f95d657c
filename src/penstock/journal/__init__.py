"""Journals of schedulers: every call and plan, written by drivers, for replay."""
