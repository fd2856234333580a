"""The objects that go back: what they say, how they look, how they are encoded."""
