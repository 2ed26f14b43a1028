"""Rotary positions of a prompt with images in it, for models that number images in three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def multimodal_positions(
    ids: Sequence[int], image_token_id: int, grids: Sequence[Sequence[int]], merge: int
) -> tuple[torch.Tensor, int]:
    """Temporal, row and column positions of Qwen2-VL (M-RoPE, arXiv 2409.12191).

    Text tokens count up in all three; an image's tokens spread over its grid, and the text after it goes on behind the
    image's longer side. transformers keeps the resulting offset on the model object, where sessions that share a
    model overwrite each other's; here every prompt keeps its own.

    Args:
        ids: the prompt's token ids, image placeholders expanded.
        grids: (frames, rows, columns) in patches for each image, in order.
        merge: patches along each side that become one token.

    Returns:
        Positions (3, 1, len(ids)) and the position of the first token after the prompt.
    """
    pieces: list[torch.Tensor] = []
    position = index = 0
    remaining = iter(grids)
    while index < len(ids):
        start = index
        if ids[index] == image_token_id:
            frames, rows, columns = next(remaining)
            shape = (frames, rows // merge, columns // merge)
            axes = (torch.arange(length) for length in shape)
            pieces.append(torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1) + position)
            index += shape[0] * shape[1] * shape[2]
            position += max(shape[1], shape[2])
        else:
            while index < len(ids) and ids[index] != image_token_id:
                index += 1
            pieces.append(torch.arange(position, position + index - start).expand(3, -1))
            position += index - start
    positions = torch.cat(pieces, dim=1)
    return positions.unsqueeze(1), int(positions.max()) + 1
