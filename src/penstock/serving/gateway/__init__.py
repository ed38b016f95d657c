"""An OpenAI-compatible gateway: chooses an engine for each request and relays the answer."""
