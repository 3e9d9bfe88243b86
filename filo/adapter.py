"""The bottleneck that adapts CLIP's global image feature (FiLo, algorithm 1)."""

from torch import Tensor, nn


class Adapter(nn.Module):
    """Half-width bottleneck with ReLU inside and SiLU outside.

    The paper has biases and no residual, the published program a residual and no biases.

    Shape:
        features: (B, D)
        output: (B, D)
    """

    def __init__(self, width: int, bias: bool = False, residual: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.down = nn.Linear(width, width // 2, bias=bias)
        self.up = nn.Linear(width // 2, width, bias=bias)
        self.inner, self.outer = nn.ReLU(), nn.SiLU()

    def forward(self, features: Tensor) -> Tensor:
        adapted = self.outer(self.up(self.inner(self.down(features))))
        return adapted + features if self.residual else adapted
