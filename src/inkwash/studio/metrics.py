"""The figures of a studio."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """What Prometheus may ask for."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        more: dict[str, Any] = {"registry": self.registry, "namespace": "inkwash"}
        self.requests = Counter("requests", "Requests answered.", ["route", "method", "status"], **more)
        self.seconds = Histogram("request_seconds", "From a request's head to its answer's end.", ["route"], **more)
        self.jobs = Gauge("jobs", "Jobs by status.", ["status"], **more)
        self.accepted = Counter("jobs_accepted", "Jobs taken in.", ["api"], **more)
        self.results = Counter("results", "Results made.", ["device"], **more)
        self.busy = Counter("device_busy_seconds", "Time in which verbs ran.", ["device"], **more)
        self.memory = Gauge("worker_memory_bytes", "Memory of the worker.", ["device"], **more)
        self.models = Gauge("worker_models", "Models in the worker's memory.", ["device"], **more)
        self.starts = Counter("worker_starts", "Starts of the worker.", ["device"], **more)
        self.fleet = Gauge("workers", "Workers that are ready, of all servers.", **more)
        self.unserved = Gauge("jobs_without_model", "Queued jobs of a model that no worker has.", ["model"], **more)
        self.streams = Gauge("streams", "Event streams open.", **more)
