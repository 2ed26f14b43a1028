"""Text prompts, for distilling and measuring the draft model of the text pair."""
