"""What an action is: prompts, phrasings, parsing and limits."""
