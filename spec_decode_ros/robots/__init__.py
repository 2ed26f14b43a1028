"""The motion guard, and the robots behind it."""
