"""An OpenAI-compatible gateway: it decides who serves a request, and relays the answer."""
