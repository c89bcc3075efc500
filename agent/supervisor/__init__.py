"""The shell that moves events and steps between the pure core and the ports. No technology in here."""
