"""Task definitions: checked when registered, completed as Amazon ECS does, turned into specs. Pure."""
