"""The life of deployments: registered, profiled, deployed, asked, removed."""
