"""The embedded backend: everything Amazon ECS would be for one machine, in this process."""
