"""Benchmarks: decoding methods side by side, over emulated links and in virtual time.

Real models over emulated links (``spec-decode bench``):
    comparison    several methods on the same samples, and their metrics
    suite         a comparison over several links, with one verifier process
    sample_frames samples of the suites `smoke` and `actions`; text_suite, plan_suite: the suites `text` and `plan`
    run           runs a suite, prints it and makes its JSON; document, tables, page and comparison_plot are its parts
    fleet/        the suite `fleet`: many robots on one server; and ``spec-decode soak``
Virtual time (``spec-decode simulate``):
    grid          every method in cells of a grid; grid_report runs and prints it
    profile/      profiles of times; ``spec-decode profile`` makes them from published shapes

A new suite on real models gives `suite.over_links` a function that compares through one link, as `text_suite` does, and
a case in `run.run_suite`, and a name in ``commands/bench.py``.
"""
