"""The torch modules in a module: what can change of them, and how that is put back."""

from contextlib import ExitStack
from typing import Any

from self_supervised_loss._frameworks import is_instance_of, is_torch_tensor
from self_supervised_loss.testing._values import attributes, content, version, walk


class Networks:
    """The torch modules that a module consists of or, if it is no torch module, that it holds.

    There are none where parameters come and go: with FSDP, and in lazy modules.

    Attributes:
        module: The module.
        is_torch_module: Whether it is a torch module itself.
        come_and_go: Whether parameters come and go.
        parts: The torch modules by path, down to the layers.
        parameters: The parameters by name.
        unregistered: More of them, which `module.parameters()` lacks: torch does not look into
            lists and dicts.
    """

    def __init__(self, module: Any, wrapped: Any) -> None:
        """Looks for networks in a module, which may be wrapped."""
        self.module = module
        self.is_torch_module: bool = _is_torch_module(module)
        roots = {"": module} if self.is_torch_module else _held(attributes(module), "")
        parts = _parts(roots)
        self.come_and_go: bool = _come_and_go([*parts.values(), *_parts({"": wrapped}).values()])
        self.parts: dict[str, Any] = {} if self.come_and_go else parts
        self.parameters: dict[str, Any] = {} if self.come_and_go else _parameters(roots)
        self.unregistered: dict[str, Any] = {}
        if self.is_torch_module:
            self._add_unregistered()

    def _add_unregistered(self) -> None:
        known = {id(value) for value in (*self.parts.values(), *self.parameters.values())}
        held = {
            path: value
            for part_path, part in self.parts.items()
            for path, value in _held(_containers(part), part_path).items()
            if id(value) not in known
        }
        self.parts |= _parts(held)
        parameters = _parameters(held)
        self.unregistered = {n: p for n, p in parameters.items() if id(p) not in known}

    def again(self) -> "Networks":
        """Looks again, unless parameters come and go."""
        return self if self.come_and_go else Networks(self.module, self.module)

    def fingerprints(self) -> dict[str, Any]:
        """Returns what the loss method must not change of parameters and their gradients."""
        prints = dict[str, Any]()
        renormalised = self._renormalised()
        for name, parameter in (self.parameters | self.unregistered).items():
            settings = id(parameter), parameter.requires_grad
            is_kept = name not in renormalised
            prints[name] = settings, _fingerprint(parameter) if is_kept else None
            prints[f"{name}.grad"] = _fingerprint(parameter.grad)
        return prints

    def buffers(self) -> dict[str, Any]:
        """Returns the contents of the buffers."""
        return {
            _join(path, name): (version(buffer), content(buffer))
            for path, part in self.parts.items()
            for name, buffer in part.named_buffers(recurse=False)
        }

    def modes(self) -> dict[str, bool]:
        """Returns which of the networks are in training mode."""
        return {path: part.training for path, part in self.parts.items()}

    def tensors_with_graph(self) -> dict[str, Any]:
        """Returns what is kept in attributes and in buffers, and leads to what it was made of."""
        owners = self.parts | {"": self.module}
        return {
            inner_path: value
            for path, owner in owners.items()
            for name, attribute in _state(owner).items()
            for inner_path, value in walk(attribute, _join(path, name))
            if is_torch_tensor(value) and value.grad_fn is not None
        }

    def put_back(self) -> ExitStack:
        """Puts training modes, parameters and their gradients back on exit."""
        stack = ExitStack()
        for part in self.parts.values():
            stack.callback(setattr, part, "training", part.training)
            if isinstance(part._parameters, dict):  # it is none in TorchScript
                stack.callback(part._parameters.update, {**part._parameters})
        for parameter in (self.parameters | self.unregistered).values():
            stack.callback(parameter.requires_grad_, parameter.requires_grad)
            stack.callback(setattr, parameter, "grad", parameter.grad)
            for tensor in [parameter] if parameter.grad is None else [parameter, parameter.grad]:
                stack.callback(setattr, tensor, "data", tensor.data)
                # Through .data, which no graph takes for a change.
                stack.callback(tensor.data.copy_, tensor.detach().clone())
        return stack

    def _renormalised(self) -> set[str]:
        """Returns the weights that torch itself changes when they are used."""
        return {
            _join(path, "weight")
            for path, part in self.parts.items()
            if getattr(part, "max_norm", None) is not None
        }


def _come_and_go(parts: list[Any]) -> bool:
    names = {base.__name__ for part in parts for base in type(part).__mro__}
    return bool(names & {"FSDPModule", "FullyShardedDataParallel", "LazyModuleMixin"})


def _held(values: dict[str, Any], path: str) -> dict[str, Any]:
    """Returns the torch modules and parameters among values, and in their lists and dicts."""
    inside = (item for name, value in values.items() for item in walk(value, _join(path, name)))
    return {
        path: value for path, value in inside if _is_torch_module(value) or _is_parameter(value)
    }


def _containers(part: Any) -> dict[str, Any]:
    return {name: v for name, v in vars(part).items() if isinstance(v, (dict, list, tuple))}


def _parts(roots: dict[str, Any]) -> dict[str, Any]:
    parts = dict[str, Any]()
    for path, root in roots.items():
        if _is_torch_module(root):
            parts |= root.named_modules(prefix=path)
    return parts


def _parameters(roots: dict[str, Any]) -> dict[str, Any]:
    parameters = dict[str, Any]()
    for path, root in roots.items():
        is_module = _is_torch_module(root)
        parameters |= root.named_parameters(prefix=path) if is_module else {path: root}
    return parameters


def _state(owner: Any) -> dict[str, Any]:
    """Returns attributes and buffers, but for what torch makes anew from parameters."""
    if not _is_torch_module(owner):
        return attributes(owner)
    made_from = [name for name, _ in owner.named_parameters(recurse=False)]
    state = attributes(owner) | dict(owner.named_buffers(recurse=False))
    return {
        name: value
        for name, value in state.items()
        # torch's older weight_norm makes weight from weight_g and weight_v.
        if name not in ("_buffers", "_parameters", "_modules")
        and not any(other.startswith(f"{name}_") for other in made_from)
    }


def _fingerprint(tensor: Any) -> Any:
    if tensor is None:
        return None
    return tensor.data_ptr(), version(tensor), content(tensor)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is_torch_module(value: Any) -> bool:
    return is_instance_of(value, "torch.nn", "Module")


def _is_parameter(value: Any) -> bool:
    return is_instance_of(value, "torch.nn", "Parameter")
