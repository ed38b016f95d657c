"""The progress of one request on one replica."""

from penstock.core.request import Request


class Sequence:
    """Counters from which every phase derives; they advance when a step is planned.

    ``prompt_target`` is what prefill must compute: the prompt, plus the tokens already generated
    when the sequence lost its KV cache and starts over. While it decodes, ``generated`` is its
    value at the moment of joining its group, at turn ``join_turn``, when a member of the group from
    the beginning had gained ``join_parts`` (drafted decodes only). ``attained`` is the service of
    its session before it came, ``cached`` the part of its prompt that it found in the cache.
    ``key`` is its key in the queue of prompts, as of its latest entry there.
    """

    __slots__ = ("attained", "cached", "computed", "deadline_s", "ended", "first_token_s",
                 "generated", "group", "join_parts", "join_turn", "key", "last_step",
                 "num_preemptions", "num_relegations", "prompt_target", "relegated", "request",
                 "reserved_blocks", "serial", "start_blocks", "started", "work_s")

    def __init__(self, request: Request, serial: int, deadline_s: float, group: int) -> None:
        self.request = request
        self.serial = serial
        self.deadline_s = deadline_s  # when its prompt should be computed
        self.group = group
        self.prompt_target = request.prompt_tokens
        self.computed = request.remote_tokens
        self.generated = 0
        self.join_turn = -1  # >= 0 while it is a member of its decode group
        self.join_parts = 0
        self.start_blocks = 0
        self.reserved_blocks = 0
        self.last_step = -1
        self.first_token_s = -1.0
        self.started = False
        self.relegated = False
        self.ended = False
        self.num_preemptions = 0
        self.num_relegations = 0
        self.work_s = 0.0
        self.attained = -1.0  # until it is asked for
        self.cached = 0
        self.key = 0.0

    @property
    def request_id(self) -> int:
        return self.request.request_id

    @property
    def remaining(self) -> int:
        """Prompt tokens still to compute."""
        return self.prompt_target - self.computed
