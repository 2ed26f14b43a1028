"""The motion guard, and the robots that it drives."""
