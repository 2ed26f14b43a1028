"""Several verifiers behind one address: the balancer, and Ray replicas with one process per GPU."""
