"""RouteBalance's own score, filters and budget clamp (arXiv 2606.17949), for comparison."""
