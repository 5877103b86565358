"""A compiled function gives the same; one that cannot be compiled runs as it is, and says why."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from subcam.networks.fast.compiled import Compiled


def double(x: Tensor) -> Tensor:
    if x.ndim == 0:
        raise ValueError("expected a vector")
    return 2 * x


@pytest.mark.slow
def test_a_compiled_function_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch.compile itself, with a backend that needs no C++ compiler."""
    real, graphs = torch.compile, []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda f, dynamic: real(f, dynamic=dynamic, backend=backend))
    fast = Compiled(double, what="the test")
    for length in (3, 5):
        x = torch.rand(length)
        assert torch.equal(fast(x), 2 * x)
    assert graphs
    assert not fast.reason


@pytest.mark.parametrize("when", ["compiling", "called"])
def test_a_compiler_that_fails_is_named_and_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], when: str
) -> None:
    asked = []

    def fail(*_: object) -> object:
        raise RuntimeError("no C++ compiler\nand so on")

    def fake_compile(function: object, dynamic: bool) -> object:
        asked.append((function, dynamic))
        return fail if when == "called" else fail()

    monkeypatch.setattr(torch, "compile", fake_compile)
    fast = Compiled(double, what="the test")
    x = torch.rand(3)
    assert torch.equal(fast(x), 2 * x)
    assert torch.equal(fast(x), 2 * x)
    assert asked == [(double, True)]
    assert fast.reason == "RuntimeError: no C++ compiler"
    assert capsys.readouterr().out == "the test runs without torch.compile (RuntimeError: no C++ compiler)\n"


def test_a_mistake_of_the_function_itself_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    fast = Compiled(double, what="the test")
    with pytest.raises(ValueError, match="expected a vector"):
        fast(torch.tensor(1.0))
    assert not fast.reason
