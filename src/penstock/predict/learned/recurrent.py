"""An LSTM over the latest rows of a replica's queue. Extra: ``torch``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError, missing_extra
from penstock.predict.learned.boosting import from_log, to_log
from penstock.predict.learned.features import Values

WINDOW = 10


@dataclass(frozen=True, slots=True)
class RecurrentOptions:
    """Sizes and training of the network, RouteBalance's first LSTM unless changed."""

    hidden: int = 128
    layers: int = 2
    head: int = 64
    dropout: float = 0.1
    epochs: int = 50
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    clip: float = 1.0


FULL_SIZE = RecurrentOptions()


@dataclass(frozen=True, slots=True, eq=False)
class RecurrentModel:
    """Standardised windows through an LSTM; a head gives each target as a logarithm.

    A window holds what a router knew when each of the latest requests was sent: predicted output
    tokens, never the true ones, so it can be deployed (RouteBalance's second LSTM cannot).
    """

    kind: ClassVar[str] = "lstm"

    features: tuple[str, ...]
    targets: tuple[str, ...]
    means: Values
    scales: Values
    target_means: Values
    target_scales: Values
    options: RecurrentOptions
    network: Any
    window: int = WINDOW

    def predict(self, rows: Values) -> Values:
        import torch

        standard = np.clip((rows - self.means) / self.scales, -10.0, 10.0)
        self.network.eval()
        with torch.no_grad():
            found = self.network(torch.from_numpy(standard.astype(np.float32))).numpy()
        return from_log(found.astype(np.float64) * self.target_scales + self.target_means)

    def state(self) -> tuple[Mapping[str, Any], Mapping[str, NDArray[np.generic]]]:
        arrays = {f"net_{name}": value.detach().cpu().numpy()
                  for name, value in self.network.state_dict().items()}
        arrays |= {name: getattr(self, name)
                   for name in ("means", "scales", "target_means", "target_scales")}
        return {"options": {name: getattr(self.options, name)
                            for name in ("hidden", "layers", "head", "dropout")}}, arrays


def _torch() -> Any:
    try:
        import torch
    except (ImportError, OSError) as error:
        raise missing_extra("kind 'lstm' (unlike linear, roofline and boosting)", "torch",
                            error) from None
    return torch


def _network(num_features: int, num_targets: int, options: RecurrentOptions) -> Any:
    torch = _torch()

    class Network(torch.nn.Module):  # type: ignore[misc,name-defined]
        """The LSTM's state after the last row, through one hidden layer."""

        def __init__(self) -> None:
            super().__init__()
            dropout = options.dropout if options.layers > 1 else 0.0
            self.lstm = torch.nn.LSTM(num_features, options.hidden, options.layers,
                                      batch_first=True, dropout=dropout)
            self.head = torch.nn.Sequential(
                torch.nn.Linear(options.hidden, options.head), torch.nn.ReLU(),
                torch.nn.Dropout(options.dropout), torch.nn.Linear(options.head, num_targets))

        def forward(self, rows: Any) -> Any:
            return self.head(self.lstm(rows)[0][:, -1])

    return Network()


def fit_recurrent(features: tuple[str, ...], targets: tuple[str, ...], rows: Values,
                  values: Values, seed: int, options: RecurrentOptions = FULL_SIZE,
                  on_epoch: Callable[[int, float], None] = lambda _epoch, _loss: None,
                  ) -> RecurrentModel:
    """On windows (requests, window, features). Raises InputError when the extra is absent.

    Mean squared error of standardised logarithms, Adam with a cosine schedule, gradients clipped.
    """
    torch = _torch()
    flat = rows.reshape(-1, rows.shape[-1])
    means, scales = flat.mean(axis=0), np.maximum(flat.std(axis=0), 1e-9)
    known = ~np.isnan(values)
    logs = to_log(np.where(known, values, 0.0))
    counts = np.maximum(known.sum(axis=0), 1)
    target_means = (logs * known).sum(axis=0) / counts
    target_scales = np.maximum(
        np.sqrt((np.square(logs - target_means) * known).sum(axis=0) / counts), 1e-9)
    standard = np.clip((rows - means) / scales, -10.0, 10.0).astype(np.float32)
    wanted = ((logs - target_means) / target_scales).astype(np.float32)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(rows.shape[-1], len(targets), options)
        optimiser = torch.optim.Adam(network.parameters(), lr=options.learning_rate,
                                     weight_decay=options.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(options.epochs, 1))
        inputs, outputs = torch.from_numpy(standard), torch.from_numpy(wanted)
        counted = torch.from_numpy(known.astype(np.float32))
        for epoch in range(options.epochs):
            network.train()
            total = 0.0
            for places in torch.randperm(len(inputs)).split(options.batch):
                optimiser.zero_grad()
                errors = (network(inputs[places]) - outputs[places]) ** 2 * counted[places]
                loss = errors.sum() / counted[places].sum().clamp(min=1.0)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), options.clip)
                optimiser.step()
                total += float(loss.detach()) * len(places)
            schedule.step()
            on_epoch(epoch + 1, total / len(inputs))
    return RecurrentModel(features, targets, means, scales, target_means, target_scales, options,
                          network, rows.shape[1])


def recurrent_from(features: tuple[str, ...], targets: tuple[str, ...], window: int,
                   head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]],
                   where: str) -> RecurrentModel:
    """From a saved file: the arrays of a state dictionary, no pickle."""
    torch = _torch()
    sizes = {name: head["options"][name] for name in ("hidden", "layers", "head", "dropout")}
    if not all(isinstance(sizes[name], int) and 0 < sizes[name] <= 4096
               for name in ("hidden", "layers", "head")) or sizes["layers"] > 16:
        raise InputError(f"{where}: options: sizes out of range")
    options = RecurrentOptions(**sizes)
    network = _network(len(features), len(targets), options)
    saved = {name.removeprefix("net_"): torch.from_numpy(np.ascontiguousarray(array))
             for name, array in arrays.items() if name.startswith("net_")}
    try:
        network.load_state_dict(saved)
    except RuntimeError as error:
        raise InputError(f"{where}: not the weights of this network "
                         f"({' '.join(str(error).split())[:80]})") from None
    numbers = [np.asarray(arrays[name], np.float64) for name in ("means", "scales")]
    wanted = [np.asarray(arrays[name], np.float64) for name in ("target_means", "target_scales")]
    for values, count in ((numbers, len(features)), (wanted, len(targets))):
        if any(value.shape != (count,) for value in values):
            raise InputError(f"{where}: means and scales do not fit the features")
    return RecurrentModel(features, targets, numbers[0], numbers[1], wanted[0], wanted[1], options,
                          network, window)
