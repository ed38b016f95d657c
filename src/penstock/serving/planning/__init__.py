"""Planning over HTTP: Penstock's versioned API, and Inferno's endpoints."""
