from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgeprune import capture
from edgeprune.forms import ports

LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), (5, 6)),
    "pointwise": (lambda: nn.Conv2d(6, 4, 1), (6, 5, 7)),
    "strided": (lambda: nn.Conv2d(6, 4, (3, 2), stride=(2, 1), padding=(1, 2)), (6, 9, 8)),
    "dilated": (lambda: nn.Conv2d(4, 4, 3, dilation=(1, 2), bias=False), (4, 9, 8)),
    "same": (lambda: nn.Conv2d(4, 6, (4, 3), padding="same"), (4, 9, 8)),
    "valid": (lambda: nn.Conv2d(4, 6, 3, padding="valid"), (4, 6, 6)),
    "grouped": (lambda: nn.Conv2d(6, 9, 3, padding=1, groups=3), (6, 6, 5)),
    "depthwise": (lambda: nn.Conv2d(6, 6, 3, padding=1, groups=6), (6, 6, 5)),
    "one dimension": (lambda: nn.Conv1d(4, 6, 5, stride=2, padding=3, groups=2), (4, 11)),
    "three dimensions": (lambda: nn.Conv3d(2, 3, (1, 2, 3), stride=2, padding=1), (2, 4, 5, 6)),
}


class Product(nn.Module):
    """A product with a parameter, (C_in, C_out) as it is."""

    def __init__(self, added: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4))
        self.bias = nn.Parameter(torch.randn(4)) if added else None

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is not None:
            return torch.addmm(self.bias, x, self.weight)
        return x @ self.weight


@pytest.mark.parametrize("name", [*LAYERS, "product", "product added"])
def test_rows_times_matrix_is_what_the_layer_computes(name: str) -> None:
    if name in LAYERS:
        make, shape = LAYERS[name]
    else:
        make, shape = (lambda: Product(name == "product added")), (6,)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = make().eval(), torch.randn(3, *shape)
    graph = capture(model, (torch.zeros(1, *shape),))
    (node,) = [n for n in graph.program.graph.nodes if ports(n) is not None]
    found = ports(node)
    assert found is not None
    tensors = dict(graph.program.named_parameters())
    args = tuple(
        tensors[a.target] if isinstance(a, torch.fx.Node) and a.op == "get_attr" else a
        for a in node.args
    )
    with torch.no_grad():
        y = model(x)
        form = found.form(args, x, y)
        chosen = torch.arange(form.positions)[::2]
        rows, wanted = form.rows(x, y, chosen)
        matrix = form.matrix(args[found.weight])
        made = rows @ matrix.mT
        bias = None if found.bias is None or len(args) <= found.bias else args[found.bias]
        if bias is not None:
            made = made + bias.view(form.groups, 1, form.outputs)
    assert rows.shape == (form.groups, 3 * len(chosen), form.inputs)
    assert matrix.shape == (form.groups, form.outputs, form.inputs)
    torch.testing.assert_close(made, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(form.weight(matrix), args[found.weight])
