"""Training: the shipped pair, early exits, and the draft of the text pair."""
