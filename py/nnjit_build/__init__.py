"""How nnjit is built, served, checked and run from a shell. Not part of the wheel; build.py hands over to it."""
