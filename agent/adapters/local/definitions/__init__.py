"""Task definitions: checked when registered, completed as Amazon ECS completes them, turned into specs. Pure."""
