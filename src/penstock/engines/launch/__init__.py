"""How replicas are started: settings in no engine's words, and the command line of each engine."""
