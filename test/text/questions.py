"""What the small random target is asked."""

PROMPTS = (
    "go to the red chair",
    "turn left 90 degrees",
    "walk forward 2 metres",
    "find the blue ball please",
)
LENGTH = 12
