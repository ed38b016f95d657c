"""RouteBalance's 13 engines (arXiv 2606.17949), simulated under its rates with every policy."""
