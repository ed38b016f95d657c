"""The life of deployments: register, profile, deploy, infer, remove."""
