"""ecs-bridge: connects a sandbox to the host by a guarded port of a bridge."""
