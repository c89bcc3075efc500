"""The protocol: what makes a program a CNI plugin, whatever it does. Knows no network."""
