"""Several verifiers as one service: a process of Ray's per GPU, kept alive, behind one address."""
