"""When work runs: the queue, leases, the reconciler, the processes that compute."""
