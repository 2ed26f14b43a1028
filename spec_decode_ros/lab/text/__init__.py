"""The text pair: prompts that the project writes itself, for distilling its draft model and for measuring it."""
