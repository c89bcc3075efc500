"""ecs-eni: moves an ENI into a sandbox and back."""
