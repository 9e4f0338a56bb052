"""Traces a loss method with JAX, and differentiates the trace."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from self_supervised_loss._frameworks import find_imported, is_instance_of
from self_supervised_loss.testing._graph import Graph
from self_supervised_loss.testing._values import walk


def is_jax_array(value: Any) -> bool:
    """Returns whether a value is an array of JAX."""
    return is_instance_of(value, "jax", "Array")


def trace_graph(
    call: Callable[..., Any], module: Any, forward: Any, fwd_out: Any, extras: Any
) -> Graph:
    """Calls a loss method once more, with tracers, and computes the gradients of the loss.

    The gradients are those by the floating-point arrays of the module, of `fwd_out` and of the
    extra arguments. If `fwd_out` is computed by a function, that function is differentiated too.
    """
    try:
        loss_of, arrays, is_complete = _trace(call, module, forward, fwd_out, extras)
        gradients = _gradients(loss_of, arrays)
    except Exception as error:
        # Some nnx modules cannot be copied, because an object of another kind holds them.
        is_of_the_copy = type(error).__name__ == "TraceContextError"
        return Graph(error=None if is_of_the_copy else error)
    outputs = {name: g for name, g in gradients.items() if name.startswith("fwd_out[")}
    others = {name: g for name, g in gradients.items() if name not in outputs}
    return Graph(
        gradients=others if forward and others else gradients,
        arrays={name: arrays[name] for name in others},
        outputs=outputs,
        is_complete=is_complete,
    )


def _trace(
    call: Callable[..., Any], module: Any, forward: Any, fwd_out: Any, extras: Any
) -> tuple[Callable[..., Any], dict[str, Any], bool]:
    """Returns the loss as a function of named arrays, and whether these are all it depends on."""
    tree_util = find_imported("jax", "tree_util")
    tree, rebuild = _as_pytree(module)
    # The gradient by a value that is added to an output is the gradient by the output.
    addends = tree_util.tree_map(_zeros, fwd_out)
    named, structure = tree_util.tree_flatten_with_path((tree, addends, extras))
    leaves = {_name(path): leaf for path, leaf in named}
    arrays = {name: leaf for name, leaf in leaves.items() if _is_floating(leaf)}

    def compute(*tracers: Any) -> Any:
        traced = leaves | dict(zip(arrays, tracers, strict=True))
        tree, addends, extras = tree_util.tree_unflatten(structure, traced.values())
        module = rebuild(tree)
        outputs = forward(module) if forward else fwd_out
        return call(module, tree_util.tree_map(_add, outputs, addends), extras)

    closed = find_imported("jax", "make_jaxpr")(compute)(*arrays.values())
    held = {id(value): path for path, value in walk(module, "") if _is_floating(value)}
    hidden = {held[id(value)]: value for value in closed.consts if id(value) in held}

    def loss_of(*inputs: Any) -> Any:
        replaced = dict(zip(map(id, hidden.values()), inputs[len(arrays) :], strict=True))
        consts = [replaced.get(id(value), value) for value in closed.consts]
        evaluate = find_imported("jax.core", "eval_jaxpr")
        return evaluate(closed.jaxpr, consts, *inputs[: len(arrays)])[0]

    # These cannot be replaced: constants of functions that are compiled separately, and an extra
    # argument that the forward pass reads from elsewhere.
    constants = [*_inner_constants(closed.jaxpr), *(c for c in closed.consts if id(c) not in held)]
    known = {id(value) for _, value in walk((module, extras), "") if _is_floating(value)}
    return loss_of, arrays | hidden, known.isdisjoint(map(id, constants))


def _gradients(loss_of: Callable[..., Any], arrays: dict[str, Any]) -> dict[str, Any]:
    if not arrays:
        return {}
    jitted, values = find_imported("jax", "jit")(loss_of), [*arrays.values()]
    gradients = find_imported("jax", "grad")(jitted, argnums=range(len(values)))(*values)
    # The linearized loss ignores the arrays that the loss does not depend on.
    _, linearized = find_imported("jax", "linearize")(jitted, *values)
    linear = find_imported("jax", "make_jaxpr")(linearized)(*values).jaxpr
    read = [linear.outvars, *(equation.invars for equation in linear.eqns)]
    used = {id(variable) for variables in read for variable in variables}
    return {
        name: gradient if id(variable) in used else None
        for name, gradient, variable in zip(arrays, gradients, linear.invars, strict=True)
    }


def _inner_constants(jaxpr: Any) -> Iterator[Any]:
    """Yields the constants of functions that are compiled on their own, which stay hidden."""
    tree_leaves = find_imported("jax", "tree_util").tree_leaves
    for equation in jaxpr.eqns:
        for parameter in tree_leaves(equation.params):
            yield from getattr(parameter, "consts", ())
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from _inner_constants(inner)


def _name(path: Any) -> str:
    keystr = find_imported("jax", "tree_util").keystr
    prefix = ("", "fwd_out", "kwargs")[path[0].idx]
    inner: str = keystr(path[1:]) if prefix else keystr(path[1:], simple=True, separator=".")
    return prefix + inner


def _zeros(output: Any) -> Any:
    zeros_like = find_imported("jax.numpy", "zeros_like")
    return zeros_like(output) if _is_floating(output) else output


def _add(output: Any, addend: Any) -> Any:
    return output + addend if _is_floating(output) else output


def _is_floating(value: Any) -> bool:
    jnp = find_imported("jax", "numpy")
    return is_jax_array(value) and bool(jnp.issubdtype(value.dtype, jnp.floating))


def _as_pytree(module: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Returns the arrays of a module that JAX can trace, and a function that rebuilds it."""
    if is_instance_of(module, "flax.nnx", "Module"):  # may refer to itself
        graph, state = find_imported("flax.nnx", "split")(module)
        return state, partial(find_imported("flax.nnx", "merge"), graph)
    if is_instance_of(module, "flax.linen", "Module") and module.scope is not None:
        unbound, variables = module.unbind()
        rngs = {name: rng.as_jax_rng() for name, rng in module.scope.rngs.items()}
        return variables, partial(unbound.bind, rngs=rngs, mutable=module.scope.mutable)
    return module, lambda tree: tree
