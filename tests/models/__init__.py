"""The models that nnjit is tested with; see registry.py."""
