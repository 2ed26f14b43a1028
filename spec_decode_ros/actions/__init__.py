"""Actions: their text, the commands that ask for them, and the models' prompts."""
