"""What containers and operators may ask over HTTP. Answers come from the model, never from Docker."""
