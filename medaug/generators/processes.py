"""Several processes that train one generator, each on its part of every batch.

``medaug train PIPELINE --devices 4`` starts three more of itself when training begins. On several
machines, which must see the same run folder and data root, either torchrun [1]_ starts them all::

    torchrun --nnodes 2 --nproc-per-node 4 ... -m medaug train PIPELINE --out RUN

or the same command is given on each with Lightning's variables MASTER_ADDR, MASTER_PORT and
NODE_RANK set: ``medaug train PIPELINE --devices 4 --nodes 2``. Run ``medaug extract`` first where
it takes hours: processes on other machines wait for two hours at most.

The first process walks the road and writes everything. The others do nothing until it trains.
All draw the same chance for the whole batch and take their part of it; gradients, losses, the
statistics of batch normalisation and the adaptive probability are means over all. The losses are
therefore those of one process with the same batch, to rounding. What travels between
the processes are these means, unencrypted: use a network that is the site's own.

.. [1] https://docs.pytorch.org/docs/stable/elastic/run.html
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

from medaug.errors import Fault, SettingsError
from medaug.generators.settings import (
    AnyGeneratorSettings,
    GeneratorSettings,
    RefinerSettings,
    SimulatorSettings,
)

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric
    from torch import Tensor

_PATIENCE = timedelta(hours=2)
_TRAIN, _GO_HOME = 1.0, 0.0


class Processes:
    """All processes of a training run as one of them sees them; without Fabric it is alone.

    Attributes:
        size: how many there are.
        rank: which one this is, from 0.
    """

    def __init__(self, fabric: Fabric | None = None, size: int = 1, rank: int = 0) -> None:
        self.size, self.rank = size, rank
        self._fabric = fabric
        self._joined = self._called = self._training = self._dismissed = False

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @property
    def device(self) -> torch.device | None:
        """The one of this process; None where the settings decide."""
        return self._fabric.device if self._fabric else None

    def join(self) -> None:
        """Meet the others, once; starts them where nobody else does."""
        if self._fabric and not self._joined:
            self._joined = True
            self._fabric.launch()

    @contextmanager
    def training(self) -> Iterator[None]:
        """The first process calls the others to train with it; all of them do this."""
        if self.first or not self._called:
            self.join()
            self.told(_TRAIN)
        self._training = True
        yield
        self._training = self._called = False

    def called(self) -> bool:
        """Wait until the first process trains (True) or has nothing more to do (False)."""
        self.join()
        self._called = self.told() == _TRAIN
        self._dismissed = not self._called
        return self._called

    def dismiss(self) -> None:
        """The first process has nothing more to do. One that failed in training just ends."""
        if self._joined and not self._training and not self._dismissed:
            self._dismissed = True
            self.told(_GO_HOME)

    def told(self, figure: float = 0.0) -> float:
        """What the first process says, in every process."""
        if not self._fabric:
            return figure
        import torch

        word = torch.tensor(float(figure) if self.first else 0.0, device=self._fabric.device)
        torch.distributed.all_reduce(word)
        return word.item()

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Of each tensor its mean over all processes, laid out as it is."""
        if not self._fabric:
            return list(tensors)
        import torch

        # Not by Fabric: its reduction waits for all processes once more, each time.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).to(self._fabric.device)
        torch.distributed.all_reduce(flat)
        means = torch.split(flat / self.size, [tensor.numel() for tensor in tensors])
        return [
            torch.empty_like(tensor).copy_(mean.view(tensor.shape))
            for tensor, mean in zip(tensors, means, strict=True)
        ]

    def part(self, whole: Tensor, groups: int = 1) -> Tensor:
        """The rows (groups * batch, …) of this process, of each group its equal share."""
        if self.size == 1:
            return whole
        shares = whole.view(groups, self.size, -1, *whole.shape[1:])
        return shares[:, self.rank].flatten(0, 1)


ALONE = Processes()


@contextmanager
def together(
    settings: AnyGeneratorSettings, devices: int = 1, nodes: int = 1
) -> Iterator[Processes]:
    """The processes that train, as long as the ``with`` block lasts.

    Args:
        settings: of the generator.
        devices: processes on each machine, each with a device of its own.
        nodes: machines. Under torchrun both numbers come from there and may be left at 1.

    Raises:
        SettingsError: Lightning Fabric is missing, there are not so many devices, or the batch
            cannot be dealt out evenly.
    """
    torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if torchrun:
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        devices, nodes = here, int(os.environ["WORLD_SIZE"]) // here
    if devices * nodes == 1:
        yield ALONE
        return
    if isinstance(settings, SimulatorSettings):
        raise SettingsError(
            Fault("--devices", f"{devices * nodes} processes", "1 with the preset dp-vote")
        )
    _refuse(settings, devices, nodes)
    processes = _processes(settings, devices, nodes, torchrun)
    if torchrun or nodes > 1:
        # Others are waiting, even if there is nothing to train.
        processes.join()
    try:
        yield processes
    finally:
        processes.dismiss()


def _processes(
    settings: GeneratorSettings | RefinerSettings, devices: int, nodes: int, torchrun: bool
) -> Processes:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import (
        LightningEnvironment,
        TorchElasticEnvironment,
    )
    from lightning_fabric.strategies import DDPStrategy

    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    here = TorchElasticEnvironment() if torchrun else LightningEnvironment()
    fabric = Fabric(
        accelerator="cuda" if _on_cuda(settings) else "cpu",
        devices=devices,
        num_nodes=nodes,
        strategy=DDPStrategy(cluster_environment=here, timeout=_PATIENCE),
    )
    return Processes(fabric, devices * nodes, here.node_rank() * devices + here.local_rank())


def _refuse(settings: GeneratorSettings | RefinerSettings, devices: int, nodes: int) -> None:
    faults, size = [], devices * nodes
    if find_spec("lightning_fabric") is None:
        faults.append(
            Fault(
                "--devices",
                f"{size} processes, but Lightning Fabric is not installed",
                "1",
                'pip install "medaug[distributed]"',
            )
        )
    if isinstance(settings, RefinerSettings):
        faults.append(
            Fault("--devices", f"{size} processes", "1 with the preset simulate-and-refine")
        )
    if settings.batch % size:
        faults.append(
            Fault(
                "generator.batch",
                f"{settings.batch} for {size} processes",
                f"a multiple of {size}, so that each has the same part",
            )
        )
    there, what = _there(settings)
    if devices > there:
        faults.append(
            Fault("--devices", str(devices), f"at most {there}, the {what} of this machine")
        )
    if faults:
        raise SettingsError(*faults)


def _on_cuda(settings: GeneratorSettings | RefinerSettings) -> bool:
    import torch

    return settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())


def _there(settings: GeneratorSettings | RefinerSettings) -> tuple[int, str]:
    import torch

    if _on_cuda(settings):
        return torch.cuda.device_count(), "GPUs"
    return os.cpu_count() or 1, "cores"
