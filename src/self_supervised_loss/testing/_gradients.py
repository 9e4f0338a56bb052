"""How the test kit asks torch and JAX for the gradient of a loss."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from self_supervised_loss._frameworks import find_imported, is_instance_of, is_torch_tensor
from self_supervised_loss.testing._networks import Networks
from self_supervised_loss.testing._values import to_float, walk


@dataclass
class Gradients:
    """The gradients of a loss by name, None for what it does not depend on.

    Attributes:
        learnable: By all that counts for learning: if each is None, nothing is learnt.
        parameters: By torch's trainable parameters.
        unregistered: By those that no optimizer sees.
        outputs: By the arrays of `fwd_out`, and None if the loss method does not read them itself.
        columns: By the tensors of the batch that have a graph.
        graph: What the loss method made or read, as torch's pairs of a node and one of its outputs.
        asked: How they were asked for.
        error: What that raised, or None.
    """

    learnable: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    unregistered: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    graph: set[Any] = field(default_factory=set)
    asked: str = "backward()"
    error: Exception | None = None


def edge_of(tensor: Any) -> tuple[Any, int]:
    """Returns where a tensor is in torch's graphs."""
    edge = find_imported("torch.autograd.graph", "get_gradient_edge")(tensor)
    return edge.node, edge.output_nr


def ask_torch(loss: Any, networks: Networks, *, batch: Any, fwd_out: Any) -> Gradients:
    """Asks torch, and leaves the graph to the training loop."""
    outputs = _with_graph(walk(fwd_out, "fwd_out", into_objects=True))
    groups: dict[str, Any] = {
        "parameters": _trainable(networks.parameters),
        "unregistered": _trainable(networks.unregistered),
        "outputs": outputs,
        "columns": _with_graph(walk(batch, "batch", into_objects=True)),
    }
    tensors = [tensor for group in groups.values() for tensor in group.values()]
    graph = _graph(loss, {edge_of(tensor) for tensor in outputs.values()})
    if any(type(node).__name__ == "CheckpointFunctionBackward" for node, _ in _graph(loss, set())):
        return Gradients(graph=graph)  # a reentrant checkpoint answers to backward() alone
    try:
        found = iter(_torch_gradients(loss, tensors))
    except Exception as error:
        # torch.compile frees its graph on the way, so that backward() must be the one to ask.
        return Gradients(graph=graph, error=None if "donated buffers" in str(error) else error)
    named: dict[str, Any] = {
        kind: {name: next(found) for name in group} for kind, group in groups.items()
    }
    named["outputs"] |= {n: None for n, t in outputs.items() if edge_of(t) not in graph}
    learnable = named["parameters"] | named["unregistered"] or named["outputs"]
    return Gradients(learnable, graph=graph, **named)


def _trainable(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: p for name, p in parameters.items() if p.requires_grad}


def _with_graph(values: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {n: v for n, v in values if is_torch_tensor(v) and v.grad_fn is not None}


def _torch_gradients(loss: Any, tensors: list[Any]) -> Iterable[Any]:
    if not tensors or not getattr(loss, "requires_grad", False):
        return [None] * len(tensors)
    ones = find_imported("torch", "ones_like")(loss)
    found: Iterable[Any] = find_imported("torch.autograd", "grad")(
        loss, tensors, grad_outputs=ones, retain_graph=True, allow_unused=True
    )
    return found


def _graph(loss: Any, outputs: set[tuple[Any, int]]) -> set[tuple[Any, int]]:
    """Walks from the loss down to what it was made of, and not beyond the outputs."""
    seen = set[tuple[Any, int]]()
    todo = [edge_of(loss)] if getattr(loss, "requires_grad", False) else []
    while todo:
        edge = todo.pop()
        if edge in seen or edge[0] is None:
            continue
        seen.add(edge)
        if edge not in outputs:
            todo += edge[0].next_functions
    return seen


def ask_jax(call: Callable[[Any, Any], Any], loss: Any, module: Any, fwd_out: Any) -> Gradients:
    """Calls the loss method once more, in `jax.jit` and `jax.grad`, with a copy of the module.

    A gradient of zeros counts as none, unless the loss is zero too.
    """
    try:
        tree, rebuild = _as_pytree(module)
        found = _jax_gradients(lambda tree, output: call(rebuild(tree), output), tree, fwd_out)
    except Exception as error:
        # From nnx modules in an object of another kind, which cannot be copied.
        is_of_the_copy = type(error).__name__ == "TraceContextError"
        return Gradients() if is_of_the_copy else Gradients(asked="jax.grad", error=error)
    may_be_zero = to_float(loss) == 0.0
    learnable = {name: g if may_be_zero or g.any() else None for name, g in found.items()}
    outputs = {name: g for name, g in learnable.items() if name.startswith("fwd_out")}
    return Gradients(learnable={} if _hides_arrays(tree) else learnable, outputs=outputs)


def _jax_gradients(call: Callable[[Any, Any], Any], module: Any, fwd_out: Any) -> dict[str, Any]:
    tree_util = find_imported("jax", "tree_util")
    named, structure = tree_util.tree_flatten_with_path((module, fwd_out))
    names = [("module", "fwd_out")[path[0].idx] + tree_util.keystr(path[1:]) for path, _ in named]
    values = dict(zip(names, (value for _, value in named), strict=True))

    def compute(arrays: dict[str, Any]) -> Any:
        return call(*tree_util.tree_unflatten(structure, (values | arrays).values()))

    arrays = {name: value for name, value in values.items() if _is_floating(value)}
    found: dict[str, Any] = find_imported("jax", "grad")(find_imported("jax", "jit")(compute))(
        arrays
    )
    return found


def _as_pytree(module: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Returns a module as a pytree, and what makes a module of it again."""
    if is_instance_of(module, "flax.nnx", "Module"):  # may refer to itself
        graph, state = find_imported("flax.nnx", "split")(module)
        return state, partial(find_imported("flax.nnx", "merge"), graph)
    return module, lambda tree: tree


def is_jax_array(value: Any) -> bool:
    """Tells whether a value is an array of JAX."""
    return is_instance_of(value, "jax", "Array")


def _is_floating(value: Any) -> bool:
    jnp = find_imported("jax", "numpy")
    return is_jax_array(value) and bool(jnp.issubdtype(value.dtype, jnp.floating))


def _hides_arrays(module: Any) -> bool:
    """Tells whether a module has arrays that JAX does not find, since it is no pytree."""
    if not find_imported("jax", "tree_util").all_leaves([module]):
        return False
    kinds = find_imported("jax", "Array"), find_imported("flax.nnx", "Variable") or ()
    return any(isinstance(value, kinds) for _, value in walk(module, "", into_objects=True))
