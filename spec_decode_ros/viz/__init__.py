"""Pictures of a run: where the robot walked, where the milliseconds went, what the models said."""
