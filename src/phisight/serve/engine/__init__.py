"""From a queued job to its tokens: fair queue, worker processes, the threads that run the model."""
