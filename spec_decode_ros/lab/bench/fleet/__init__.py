"""The fleet suite: many simulated robots with recorded drafts against one server, and the soak test."""
