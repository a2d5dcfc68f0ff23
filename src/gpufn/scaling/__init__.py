"""How many instances are wanted: arithmetic over load. No I/O, no clock."""
