"""How weights files get onto this machine: from the hub, or from a file at hand. No torch in here."""
