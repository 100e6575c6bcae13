"""Long short-term memory (Hochreiter and Schmidhuber 1997, with Gers et al. 2000's forget gate)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Lstm(nn.Module):
    """A layer of LSTM units; `LstmPass` runs it.

    With sigma the logistic function, at every step

        i, f, o = sigma(W x + U h + b),  g = tanh(W x + U h + b),  c' = f c + i g,
        h' = o tanh(c').

    The rows of its parameters are those of i, f, o and g, in this order.

    Args:
        inputs: D.
        units: H.
        orthogonal: Whether the initial weights are orthogonal and the biases 0; otherwise all are
            drawn from U(-1/sqrt(H), 1/sqrt(H)), as PyTorch's are.
        generator: Draws the initial weights.
    """

    def __init__(
        self, inputs: int, units: int, *, orthogonal: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.inputs, self.units = inputs, units
        self.input = nn.Parameter(torch.empty(4 * units, inputs))
        self.hidden = nn.Parameter(torch.empty(4 * units, units))
        self.bias = nn.Parameter(torch.zeros(4 * units))
        for parameter in self.parameters():
            if not orthogonal:
                parameter.data.uniform_(-(units**-0.5), units**-0.5, generator=generator)
            elif parameter.dim() == 2:
                nn.init.orthogonal_(parameter, 1.0, generator)


class LstmPass:
    """Forward and backward pass over L steps of B sequences, without autograd.

    Autograd would record ten operations a step. Nothing is read across the first step of an
    episode, forward or backward.

    Args:
        network: Its parameters are read at each pass; `backward` needs their gradients.
        steps: L.
        rows: B.
    """

    def __init__(self, network: Lstm, steps: int, rows: int) -> None:
        units = network.units
        self.steps, self.rows, self._units = steps, rows, units
        self._network = network
        self._input, self._hidden = network.input.detach(), network.hidden.detach()
        self._bias = network.bias.detach()
        empty = self._bias.new_empty
        self._gates = empty(steps, rows, 4 * units)  # then activations; then gradients
        shape = steps, rows, units
        self.h, self.c = empty(shape), empty(shape)
        self._h_in, self._c_in = empty(shape), empty(shape)
        self._tanh_c = empty(shape)
        self._x = torch.empty(0)
        self._keep = torch.empty(0)

    def forward(self, x: Tensor, first: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """Run all steps.

        Args:
            x: (L * B, D), step by step.
            first: (L, B) bool, whether an episode begins with the step: it starts from zeros.
            h: (B, H), before the first step.
            c: (B, H), cell state before the first step.

        Returns:
            The outputs (L, B, H), valid until the next call, as are ``h``, the same, and ``c``.
        """
        units = self._units
        self._x, self._keep = x, (~first).to(torch.float32).unsqueeze(-1)
        torch.addmm(self._bias, x, self._input.T, out=self._gates.view(-1, 4 * units))
        for t in range(self.steps):
            gates, keep = self._gates[t], self._keep[t]
            h_in = torch.mul(h, keep, out=self._h_in[t])
            c_in = torch.mul(c, keep, out=self._c_in[t])
            gates.addmm_(h_in, self._hidden.T)
            gates[:, : 3 * units].sigmoid_()
            gates[:, 3 * units :].tanh_()
            i, f, o, g = torch.split(gates, units, 1)
            c = torch.mul(f, c_in, out=self.c[t]).addcmul_(i, g)
            h = torch.mul(o, torch.tanh(c, out=self._tanh_c[t]), out=self.h[t])
        return self.h

    def backward(self, gradient: Tensor) -> None:
        """Write the parameters' gradients over what they were, by back-propagation through time.

        Args:
            gradient: (L, B, H), of the loss with respect to the latest `forward`'s outputs.
        """
        units = self._units
        d_h, d_c = gradient.new_zeros(2, self.rows, units)
        for t in range(self.steps - 1, -1, -1):
            i, f, o, g = torch.split(self._gates[t], units, 1)
            tanh_c, c_in = self._tanh_c[t], self._c_in[t]
            d_h += gradient[t]
            d_c += d_h * o * (1.0 - tanh_c.square())
            d_o = d_h * tanh_c * o * (1.0 - o)
            d_i = d_c * g * i * (1.0 - i)
            d_f = d_c * c_in * f * (1.0 - f)
            d_g = d_c * i * (1.0 - g.square())
            d_c *= f * self._keep[t]
            torch.cat((d_i, d_f, d_o, d_g), 1, out=self._gates[t])
            torch.mm(self._gates[t], self._hidden, out=d_h)
            d_h *= self._keep[t]
        d_gates = self._gates.view(-1, 4 * units)
        torch.mm(d_gates.T, self._x, out=self._network.input.grad)
        torch.mm(d_gates.T, self._h_in.view(-1, units), out=self._network.hidden.grad)
        torch.sum(d_gates, 0, out=self._network.bias.grad)
