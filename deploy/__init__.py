"""What prepares a machine for berth: packages, Docker, and the demonstration."""
