"""Planning over HTTP: Penstock's versioned API, and the endpoints that Inferno has."""
