"""Old path of the scheduler plug-in, kept for one release."""
