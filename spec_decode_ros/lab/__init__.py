"""What neither robot nor cloud runs: benchmarks, planning, training, fault injection, emulated networks, the demo."""
