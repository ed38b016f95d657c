"""Stands in for Ray: tasks run when their results are asked for, the latest started first."""

import pickle
from collections.abc import Callable
from types import ModuleType
from typing import Any


class RayError(Exception):
    """As Ray's."""


class Task:
    """A task and, once it ran, its result. ``losses`` workers are lost with it first."""

    def __init__(self, call: Callable[[], Any], retries: int, losses: int) -> None:
        self.call = call
        self.left = retries
        self.losses = losses
        self.runs = 0
        self.result: Any = None

    def run(self) -> None:
        while not self.runs:
            if self.losses == 0:
                self.runs, self.result = 1, pickle.loads(pickle.dumps(self.call()))
                return
            self.losses -= 1
            if self.left == 0:
                raise RayError("The worker died.\nMore about it.")
            self.left -= 1


class Ray(ModuleType):
    """The part of Ray's module that Penstock calls. ``losses`` has the number of workers that are
    lost with a task, by the task's number."""

    def __init__(self, cores: int = 2, losses: dict[int, int] | None = None) -> None:
        super().__init__("ray")
        self.exceptions = ModuleType("ray.exceptions")
        self.exceptions.RayError = RayError  # type: ignore[attr-defined]
        self.cores = cores
        self.losses = losses or {}
        self.tasks: list[Task] = []
        self.cancelled: list[Task] = []
        self.put_values: list[Any] = []
        self.options: dict[str, Any] | None = None
        self.most_in_flight = 0
        self.refusal: Exception | None = None

    def is_initialized(self) -> bool:
        return self.options is not None

    def init(self, **options: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.options = options

    def shutdown(self) -> None:
        self.options = None

    def lose_a_worker(self) -> None:
        """Say so as Ray's thread does."""
        print("(raylet) A worker died.")

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.cores)}

    def put(self, value: Any) -> Any:
        self.put_values.append(value)
        return value

    def remote(self, *, num_cpus: int, max_retries: int) -> Callable[[Any], Any]:
        ray = self

        class Remote:
            def __init__(self, function: Callable[..., Any]) -> None:
                self._function = function

            def remote(self, *arguments: Any) -> Task:
                task = Task(lambda: self._function(*arguments), max_retries,
                            ray.losses.get(len(ray.tasks), 0))
                ray.tasks.append(task)
                ray.most_in_flight = max(ray.most_in_flight,
                                         sum(not one.runs for one in ray.tasks))
                return task

        return Remote

    def get(self, task: Task) -> Any:
        for one in reversed(self.tasks):
            if one is not task and one.losses <= one.left:
                one.run()
        task.run()
        return task.result

    def cancel(self, task: Task, *, force: bool) -> None:
        self.cancelled.append(task)
