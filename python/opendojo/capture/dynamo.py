"""What Dynamo's graphs say about themselves: which argument is which parameter, buffer or input,
and which module each node belongs to.

Dynamo names an argument by how the compiled function reaches it, for example
L['self']._modules['trunk']._modules['0']._parameters['weight']. The module from which such a path
of modules starts is a *root*; labels are paths from the first root, as in model.named_parameters(),
and those from other roots carry the root's name.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from opendojo.capture.joint import Placeholder
from opendojo.capture.trace import LOSS_MODULE
from opendojo.errors import Error

_MEMBER = re.compile(
    r"(?P<root>.*?)(?P<path>(?:\._modules\['[^']*'\])*)\._(?P<kind>parameter|buffer)s"
    r"\['(?P<name>[^']*)'\]"
)


@dataclass(frozen=True)
class _Member:
    root: str
    label: str  # from the root
    kind: str  # "parameter" or "buffer"


def _member(source: str) -> _Member | None:
    found = _MEMBER.fullmatch(source)
    if found is None:
        return None
    path = re.findall(r"\['([^']*)'\]", found["path"])
    return _Member(found["root"], ".".join([*path, found["name"]]), found["kind"])


def _plain(source: str) -> str:
    """`batch.images` of L['batch']['images']."""
    words = re.findall(r"\w+", source)
    return ".".join(words[1:] if source[:2] in ("L[", "G[") else words)


def _sources(graph: torch.fx.GraphModule) -> list[str]:
    nodes = graph.graph.find_nodes(op="placeholder")
    return [str(n._dynamo_source.name) if hasattr(n, "_dynamo_source") else n.name for n in nodes]


def _roots(sources: list[str]) -> list[str]:
    """The roots, in order of first mention; one that another root's path begins with comes
    before it."""
    members = [_member(source) for source in sources]
    roots = list(dict.fromkeys(m.root for m in members if m is not None))
    return sorted(roots, key=lambda r: any(r.startswith(o) and r != o for o in roots))


def _prefix(root: str, roots: list[str]) -> str:
    """What labels from this root begin with."""
    first = roots[0]
    if root == first:
        return ""
    return _plain(root[len(first) :] if root.startswith(first) else root)


def describe_placeholders(
    graph: torch.fx.GraphModule, example_inputs: list[Any]
) -> list[Placeholder]:
    """One for each argument of the graph, with a label of its own.

    Errors (opendojo.Error): parameters that are members of the graph instead of arguments.
    """
    if next(graph.parameters(), None) is not None:
        raise Error(
            "the graph holds parameters instead of taking them: leave "
            "torch._dynamo.config.inline_inbuilt_nn_modules at True"
        )
    nodes = graph.graph.find_nodes(op="placeholder")
    sources = _sources(graph)
    roots = _roots(sources)
    taken: set[str] = set()
    found = []
    for node, source, example in zip(nodes, sources, example_inputs, strict=True):
        if node.meta.get("grapharg") is not None and node.meta["grapharg"].pass_arg_as_tensor:
            raise Error(
                f"{_plain(source)!r} is a Python number that changes from call to call: pass it as "
                "a float32 tensor, or set torch._dynamo.config.specialize_float, for one graph per "
                "value"
            )
        if not isinstance(example, Tensor):
            number = float(example) if isinstance(example, float | torch.SymFloat) else int(example)
            found.append(Placeholder("number", source, number))  # its value becomes a guard
            continue
        member = _member(source)
        label = _plain(source) or "input"
        if member is not None:
            label = ".".join(p for p in (_prefix(member.root, roots), member.label) if p)
        wanted, count = label, 1
        while label in taken:
            label, count = f"{wanted}.{count}", count + 1
        taken.add(label)
        is_parameter = isinstance(example, nn.Parameter) or (
            member is not None and member.kind == "parameter"
        )
        if is_parameter and example.requires_grad:
            found.append(Placeholder("weight", label, example))
        elif is_parameter or member is not None:
            found.append(Placeholder("buffer", label, example))
        else:
            found.append(Placeholder("input", label, example))
    return found


def name_modules(graph: torch.fx.GraphModule) -> None:
    """Gives each node, also of graphs inside, the path of its innermost module as
    meta["custom"]["module"]. Nodes of a compiled function that stand outside of all modules are
    the loss."""
    roots = _roots(_sources(graph))
    stacks = {
        node: [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
        for inner in graph.modules()
        if isinstance(inner, torch.fx.GraphModule)
        for node in inner.graph.nodes
        if node.op not in ("placeholder", "output")
    }
    # Compiled as a module, the first root is never on the stack: it is the function that runs.
    is_function = bool(roots) and any(stack[:1] == roots[:1] for stack in stacks.values())
    outside = LOSS_MODULE if is_function or not roots else ""
    for node, stack in stacks.items():
        node.meta["custom"] = {"module": _path(stack[-1], roots) if stack else outside}


def _path(module: str, roots: list[str]) -> str:
    """`trunk.0` of L['self'].trunk.0."""
    for root in sorted(roots, key=len, reverse=True):
        if module == root or module.startswith((f"{root}.", f"{root}[")):
            rest = re.sub(r"\[['\"]?([^'\"\]]*)['\"]?\]", r".\1", module[len(root) :]).strip(".")
            return ".".join(p for p in (_prefix(root, roots), rest) if p)
    return _plain(module)
