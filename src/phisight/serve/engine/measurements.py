"""What ``/metrics`` shows, in a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Measurements:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.answers = self._counter("answers", "Requests answered, by path and status.", "path", "status")
        self.tokens = self._counter("tokens", "Tokens, read in prompts and written in answers.", "kind")
        self.waiting = self._gauge("queue_jobs", "Requests that wait.")
        self.in_work = self._gauge("answers_in_work", "Answers in the making.")
        self.batch = self._histogram("step_answers", "Answers that share a step.", (1, 2, 4, 8, 12, 16, 24, 32, 64))
        self.step_s = self._histogram("step_seconds", "Time of one step of all answers.", _SECONDS)
        self.queue_s = self._histogram("queue_seconds", "Time from arrival to the model.", _SECONDS)
        self.first_token_s = self._histogram("first_token_seconds", "Time from arrival to the first token.", _SECONDS)
        self.request_s = self._histogram("request_seconds", "Time from arrival to the whole answer.", _SECONDS)
        self.decode_s = self._histogram("image_decode_seconds", "Time to decode and crop a request's images.", _SECONDS)

    def text(self) -> bytes:
        """All of it in the text format of Prometheus."""
        return generate_latest(self._registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"phisight_{name}", about, labels, registry=self._registry)

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(f"phisight_{name}", about, registry=self._registry)

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"phisight_{name}", about, buckets=buckets, registry=self._registry)
