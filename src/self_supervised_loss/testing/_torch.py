"""Finds the networks in a module, and follows the graph that torch built for a loss."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from self_supervised_loss._frameworks import find_imported, is_instance_of, is_torch_tensor
from self_supervised_loss.testing._graph import Graph
from self_supervised_loss.testing._values import shape_of, walk

_Edge: TypeAlias = tuple[Any, int]  # a node of a graph and one of its outputs


# The networks


@dataclass(frozen=True)
class Networks:
    """The torch objects in a module, by path.

    Attributes:
        modules: The torch modules, from the module itself down to its layers.
        parameters: The parameters, and other leaf tensors that require a gradient.
        registered: The names of the parameters that `module.parameters()` yields. If the module is
            not a torch module, all parameters count.
        graphs: The tensors with a graph, except weights that torch computes from parameters.
        are_visible: Whether parameters are found where they are used, unlike with FSDP and in lazy
            modules, in which case all of the above is empty.
    """

    modules: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    registered: list[str] = field(default_factory=list)
    graphs: dict[str, Any] = field(default_factory=dict)
    are_visible: bool = False

    def state(self) -> dict[str, Any]:
        """Returns the parameters, except those that torch renormalises, and all gradients."""
        owners = {f"{path}.weight": module for path, module in self.modules.items()}
        state = dict[str, Any]()
        for name, parameter in self.parameters.items():
            if getattr(owners.get(name), "max_norm", None) is None:
                state[name] = parameter
            state[f"{name}.grad"] = parameter.grad
        return state

    def buffers(self) -> dict[str, Any]:
        """Returns the buffers."""
        return {
            f"{path}.{name}".lstrip("."): buffer
            for path, module in self.modules.items()
            for name, buffer in module._buffers.items()
        }

    def modes(self) -> dict[str, bool]:
        """Returns whether each module is in training mode."""
        return {path: module.training for path, module in self.modules.items()}


def find_networks(module: Any, wrapped: Any) -> Networks:
    """Searches a module, which may be wrapped, for its networks."""
    found = dict[int, tuple[str, Any]]()
    for path, value in walk(module, ""):
        found.setdefault(id(value), (path, value))  # kept alive, so its ID stays unique
    modules = {path: value for path, value in found.values() if _is_module(value)}
    if not all(map(_holds_its_parameters, (wrapped, *modules.values()))):
        return Networks()
    tensors = {path: value for path, value in found.values() if is_torch_tensor(value)}
    parameters = {path: tensor for path, tensor in tensors.items() if _is_learnable(tensor)}
    # The module itself comes first, if it is a torch module.
    registered = {id(p) for p in module.parameters()} if "" in modules else {*found}
    return Networks(
        modules=modules,
        parameters=parameters,
        registered=[
            path
            for path, tensor in parameters.items()
            if _is_parameter(tensor) and id(tensor) in registered
        ],
        graphs={
            path: tensor
            for path, tensor in tensors.items()
            if tensor.grad_fn is not None and not _is_computed_weight(path, parameters)
        },
        are_visible=True,
    )


def _holds_its_parameters(module: Any) -> bool:
    names = {base.__name__ for base in type(module).__mro__}
    return not names & {"FSDPModule", "FullyShardedDataParallel", "LazyModuleMixin"}


def _is_learnable(tensor: Any) -> bool:
    return _is_parameter(tensor) or (tensor.is_leaf and tensor.requires_grad)


def _is_computed_weight(path: str, parameters: Mapping[str, Any]) -> bool:
    # The older weight_norm computes weight from weight_g and weight_v. Recurrent layers list them.
    made_from = any(name.startswith(f"{path}_") for name in parameters)
    return made_from or "_flat_weights[" in path


def _is_module(value: Any) -> bool:
    return is_instance_of(value, "torch.nn", "Module")


def _is_parameter(value: Any) -> bool:
    return is_instance_of(value, "torch.nn", "Parameter")


# The graph


def kept_graphs(loss: Any, before: Networks, after: Networks, fwd_out: Any) -> list[str]:
    """Returns the tensors that keep a graph, except those that the loss method reads itself."""
    read = _edges(loss, _with_graph(fwd_out, "fwd_out"))
    return [
        path
        for path, tensor in after.graphs.items()
        if tensor is not before.graphs.get(path) or _edge_of(tensor) not in read
    ]


def follow_graph(
    loss: Any, networks: Networks, *, batch: Any, fwd_out: Any, extras: Mapping[str, Any]
) -> Graph:
    """Follows the graph of a loss and computes its gradients. It can be used again afterwards."""
    outputs, columns = _with_graph(fwd_out, "fwd_out"), _with_graph(batch, "batch")
    edges, read = _edges(loss, columns), _edges(loss, outputs)
    leaves = {id(node.variable): node.variable for node, _ in edges if _is_leaf_node(node)}
    held = _held(networks, extras)
    known = {id(tensor) for tensor in (*held.values(), *columns.values())}
    strangers = {
        f"a parameter of shape {shape_of(leaf)}": leaf
        for key, leaf in leaves.items()
        if _is_parameter(leaf) and key not in known
    }
    arrays = held or strangers
    asked = {name: array for name, array in arrays.items() if id(array) in leaves} | {
        name: output for name, output in outputs.items() if _edge_of(output) in read
    }
    try:
        gradients = _gradients(loss, asked)
    except Exception as error:
        return Graph(error=None if _allows_only_backward(error) else error)
    return Graph(
        gradients={name: gradients.get(name) for name in arrays},
        arrays=arrays,
        outputs={name: gradients.get(name) for name in outputs},
        registered=[name for name in networks.registered if name in arrays],
        unregistered=_unregistered(networks, gradients, strangers),
        columns=[name for name, column in columns.items() if _edge_of(column) in edges],
        normalised_twice=sorted({*_normalised_twice(edges)}),
        is_complete=not any(_hides_more(node) for node, _ in edges),
    )


def _with_graph(data: Any, name: str) -> dict[str, Any]:
    return {
        path: value
        for path, value in walk(data, name)
        if is_torch_tensor(value) and value.requires_grad
        if value.grad_fn is not None or _is_parameter(value)
    }


def _held(networks: Networks, extras: Mapping[str, Any]) -> dict[str, Any]:
    passed = {path: value for path, value in walk(extras, "kwargs") if is_torch_tensor(value)}
    return {
        path: tensor
        for path, tensor in (networks.parameters | passed).items()
        # The structure of an ensemble, kept on the meta device, is not trained.
        if tensor.is_leaf and tensor.requires_grad and not tensor.is_meta
    }


def _edge_of(tensor: Any) -> _Edge:
    edge = find_imported("torch.autograd.graph", "get_gradient_edge")(tensor)
    return edge.node, edge.output_nr


def _edges(loss: Any, stops: Mapping[str, Any]) -> set[_Edge]:
    """Returns everything that a loss was computed from, up to some tensors."""
    last = {_edge_of(tensor) for tensor in stops.values()}
    edges = set[_Edge]()
    todo = [_edge_of(loss)] if getattr(loss, "requires_grad", False) else []
    while todo:
        edge = todo.pop()
        if edge[0] is not None and edge not in edges:
            edges.add(edge)
            todo += () if edge in last else edge[0].next_functions
    return edges


def _is_leaf_node(node: Any) -> bool:
    return type(node).__name__ == "AccumulateGrad"


def _hides_more(node: Any) -> bool:
    """Returns whether a node is of a custom function, such as a reentrant checkpoint."""
    is_custom = is_instance_of(node, "torch.autograd.function", "BackwardCFunction")
    return is_custom and type(node).__name__ != "CompiledFunctionBackward"


def _gradients(loss: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
    if not tensors:
        return {}
    gradients = find_imported("torch.autograd", "grad")(
        loss.sum(), [*tensors.values()], retain_graph=True, allow_unused=True
    )
    return dict(zip(tensors, gradients, strict=True))


def _allows_only_backward(error: Exception) -> bool:
    # Some graphs of torch.compile can be used only once, and reentrant checkpoints only as a whole.
    return any(text in str(error) for text in ("donated buffers", "use_reentrant=True"))


def _unregistered(
    networks: Networks, gradients: Mapping[str, Any], strangers: Mapping[str, Any]
) -> list[str]:
    if "" not in networks.modules:  # no `module.parameters()` to leave anything out
        return []
    trained = [name for name in networks.parameters if gradients.get(name) is not None]
    known = [name for name in trained if _is_parameter(networks.parameters[name])]
    return [name for name in known if name not in networks.registered] + [*strangers]


_NORMALISED = {
    "LogSoftmaxBackward0": ("SoftmaxBackward0", "cross_entropy or log_softmax", "softmax"),
    "BinaryCrossEntropyWithLogitsBackward0": (
        "SigmoidBackward0",
        "binary_cross_entropy_with_logits",
        "sigmoid",
    ),
}
_RESHAPING = ("Transpose", "Permute", "View", "UnsafeView", "Squeeze", "Unsqueeze", "ToCopy")


def _normalised_twice(edges: set[_Edge]) -> Iterator[tuple[str, str]]:
    """Yields functions that normalise logits, with the function that normalised them before."""
    for node, _ in edges:
        inner_node, outer, inner = _NORMALISED.get(type(node).__name__, ("", "", ""))
        if inner_node:
            node = node.next_functions[0][0]
            while type(node).__name__.startswith(_RESHAPING):
                node = node.next_functions[0][0]
            if type(node).__name__ == inner_node:
                yield outer, inner
