"""ecs-plugin-host: a warm interpreter that runs the agent's plugin calls without starting one for each."""
