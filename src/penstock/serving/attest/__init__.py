"""Evidence of live engines: asked for, judged and renewed."""
