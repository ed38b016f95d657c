"""Step times composed from measured kernels: tables in AIConfigurator's column layout."""
