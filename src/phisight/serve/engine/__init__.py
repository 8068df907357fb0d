"""From a queued job to its tokens: fair queue, worker processes, the thread that owns the model."""
