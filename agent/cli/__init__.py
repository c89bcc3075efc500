"""The ``berth`` command. It talks to the ECS JSON API and to the introspection API, never to Docker."""
