"""Optimisers as update ops: which class becomes which op, with which states and hyper-parameters.

A captured step holds one op per parameter. Another optimiser joins by one call:

    opendojo.optim.register(MyOptimizer, my_rule)

where `my_rule(group)` gets one of the optimiser's parameter groups and returns an UpdateRule, or
raises opendojo.Error in one sentence if an option of the group has no counterpart. The op that the
rule names must be in the op table (docs/ops.md).
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from opendojo.errors import Error


@dataclass(frozen=True)
class StateRule:
    """A tensor of the parameter's shape that lives from step to step and begins at zero."""

    key: str  # in torch's optimizer.state[parameter]
    name: str  # in the Graph: the label is "<parameter>.<name>"


@dataclass(frozen=True)
class UpdateRule:
    """Op `name(weight, gradient, *states, *hyper) {attributes}` with the targets new weight and new
    states. A state that is None is absent: its operand is `none`, its target `_`."""

    name: str
    states: tuple[StateRule | None, ...]
    hyper: tuple[str, ...]  # of "lr" (f32, per parameter group) and "step" (i64, 1 at the first)
    attributes: dict[str, float | bool]


Rule = Callable[[dict[str, Any]], UpdateRule]


def _refuse(group: dict[str, Any], optimizer: str, *options: str) -> None:
    for option in options:
        if group.get(option):
            raise Error(f"{optimizer}({option}=True) has no update op: leave {option} off")


def _sgd(group: dict[str, Any]) -> UpdateRule:
    _refuse(group, "SGD", "differentiable")
    momentum, dampening = float(group["momentum"]), float(group["dampening"])
    if momentum and dampening:
        raise Error(
            "SGD(dampening) has no update op: torch applies it from the second step on only, and "
            "the op does not know the step; use dampening=0"
        )
    return UpdateRule(
        name="dojo.sgd",
        states=(StateRule("momentum_buffer", "momentum") if momentum else None,),
        hyper=("lr",),
        attributes=_given(
            momentum=momentum,
            nesterov=bool(group["nesterov"]),
            weight_decay=float(group["weight_decay"]),
            maximize=bool(group["maximize"]),
        ),
    )


def _adam(group: dict[str, Any], *, decoupled: bool | None = None) -> UpdateRule:
    _refuse(group, "Adam", "amsgrad", "differentiable")
    if decoupled is None:
        decoupled = bool(group.get("decoupled_weight_decay", False))
    beta1, beta2 = (float(beta) for beta in group["betas"])
    return UpdateRule(
        name="dojo.adamw",
        states=(StateRule("exp_avg", "exp_avg"), StateRule("exp_avg_sq", "exp_avg_sq")),
        hyper=("lr", "step"),
        attributes={
            "beta1": beta1,
            "beta2": beta2,
            "eps": float(group["eps"]),
            "weight_decay": float(group["weight_decay"]),
            "decoupled": decoupled,
            **_given(maximize=bool(group["maximize"])),
        },
    )


def _adamw(group: dict[str, Any]) -> UpdateRule:
    return _adam(group, decoupled=True)


def _given(**attributes: float | bool) -> dict[str, float | bool]:
    return {name: value for name, value in attributes.items() if value}


_RULES: dict[type[torch.optim.Optimizer], Rule] = {
    torch.optim.SGD: _sgd,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adamw,
}


def register(optimizer: type[torch.optim.Optimizer], rule: Rule) -> None:
    """From now on `optimizer`, exactly this class, is captured by `rule`."""
    _RULES[optimizer] = rule


def rule_for(optimizer: torch.optim.Optimizer) -> Rule:
    """Errors: a class without a rule. A subclass counts as its base only if it keeps its step()."""
    step = inspect.unwrap(type(optimizer).step)
    for base in type(optimizer).__mro__:
        if base in _RULES and inspect.unwrap(base.step) is step:
            return _RULES[base]
    known = ", ".join(sorted(c.__name__ for c in _RULES))
    raise Error(
        f"optimizer {type(optimizer).__name__} has no update op (known: {known}): use one of them, "
        "or register a rule with opendojo.optim.register"
    )
