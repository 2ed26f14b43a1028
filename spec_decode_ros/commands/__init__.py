"""The subcommands of `spec-decode`, one module each: options, and one call of the room that does the work.

A command module has a docstring whose first line is its help, `add_arguments(parser)` and
`run(args) -> int`, the exit code. It imports heavy libraries inside `run`, so that its `--help`
is instant. Modules whose names begin with an underscore are helpers.
"""
