"""How a workload is isolated: one backend each, strangers to each other (`interface`)."""
