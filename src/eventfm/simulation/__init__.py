"""Pictures and motion to events."""
