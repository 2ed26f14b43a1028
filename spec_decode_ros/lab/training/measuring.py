"""How well a model in training answers held-out questions, token by token given the right beginning."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from spec_decode_ros.lab.training.batches import make_batch
from spec_decode_ros.lab.training.dataset import Dataset
from spec_decode_ros.lab.training.passes import Passes

MEASURED = 640
FRAMES_A_BATCH = 32


@torch.no_grad()
def answered(model: Any, data: Dataset, passes: Passes, teacher: Any = None) -> dict[str, float]:
    """Shares of answers on held-out frames that are right.

    ``tokens`` counts every token, ``velocities`` those before the bar, ``answers`` the answers that are right in every
    token. With a teacher, the teacher's own choices are what is right.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    right: list[torch.Tensor] = []
    heavy: list[torch.Tensor] = []
    whole: list[torch.Tensor] = []
    count = min(len(data), MEASURED)
    for start in range(0, count, FRAMES_A_BATCH):
        index = np.arange(start, min(start + FRAMES_A_BATCH, count))
        batch = make_batch(data, index, np.zeros(len(index), bool))
        fields = {name: value.to(device) for name, value in vars(batch).items()}
        asked = batch.target >= 0

        def choices(
            of: Any, fields: dict[str, torch.Tensor] = fields, asked: torch.Tensor = asked
        ) -> torch.Tensor:
            with torch.autocast(device.type, torch.bfloat16):
                visual = passes.see(of, fields["frames"])
                hidden = passes.think(of, visual, fields["tokens"], fields["question"], fields["position"])
                return of.lm_head(hidden[asked.to(device)]).argmax(-1).cpu()

        same = choices(model) == (batch.target[asked] if teacher is None else choices(teacher))
        answer = torch.arange(len(index))[:, None] * 100 + batch.question
        _, number = answer[asked].unique(return_inverse=True)
        wrong = torch.zeros(int(number.max()) + 1).index_add_(0, number, (~same).float())
        right.append(same)
        heavy.append(same[batch.weight[asked] > 1])
        whole.append(wrong == 0)
    model.train(was_training)
    shares = {"tokens": right, "velocities": heavy, "answers": whole}
    return {name: float(torch.cat(values).float().mean()) for name, values in shares.items()}
