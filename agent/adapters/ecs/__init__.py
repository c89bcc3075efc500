"""The real Amazon ECS as the agent's backend: API, control channel, telemetry channel."""
