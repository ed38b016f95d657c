"""Cycle logs of Inferno's control loop with one server."""

import json

STATE = {"alpha": 8.0, "beta": 0.016, "gamma": 0.0005}


def cycle(number, rate, replicas, *, max_batch=None):
    server = {"name": "s", "class": "Premium", "model": "m", "rpm": rate, "throughput": rate,
              "avgInTok": 2048, "avgOutTok": 1024, "itl": 20.0, "ttft": 70.0, "sloItl": 30,
              "sloTtft": 200, "accelerator": "H100", "replicas": replicas, "cost": 75 * replicas}
    if max_batch is not None:
        server["maxBatch"] = max_batch
    return {"cycle": number, "servers": [server],
            "internals": [{"model": "m", "acc": "H100", **STATE}],
            "capacity": [{"type": "H100", "allocated": replicas, "available": 64}]}


def written(path, cycles):
    path.write_text("".join(json.dumps(one) + "\n" for one in cycles))
    return path
