"""Which of a class's training images are its references: the draw of the published FADE (few-shot set-up)."""

import torch


def draw(count: int, shots: int, seed: int) -> list[int]:
    """Draw `shots` of `count` images by number, the same on every machine for the same seed.

    As a shuffled data loader of PyTorch draws them: its generator is seeded with the second number of one
    that is seeded with `seed`. The global generator is not touched.
    """
    outer = torch.Generator().manual_seed(seed)
    for _ in range(2):
        number = torch.empty((), dtype=torch.int64).random_(generator=outer).item()
    inner = torch.Generator().manual_seed(number)
    return torch.randperm(count, generator=inner)[:shots].tolist()
