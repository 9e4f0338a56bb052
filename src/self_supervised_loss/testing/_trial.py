"""One call of a loss method, as the test kit makes it: call as learners do, compare, put back."""

import inspect
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from self_supervised_loss._frameworks import find_imported, is_mapping
from self_supervised_loss._metrics import MetricsLogger
from self_supervised_loss._wrappers import unwrap
from self_supervised_loss.testing._gradients import (
    Gradients,
    ask_jax,
    ask_torch,
    edge_of,
    is_jax_array,
)
from self_supervised_loss.testing._networks import Networks
from self_supervised_loss.testing._values import content, fault_as_scalar, version, walk


class Trial:
    """One call of a loss method, and what came of it.

    Attributes:
        module: The module that has the loss method, without what is wrapped around it.
        module_id: The ID that it is called with.
        batch: The batch.
        fwd_out: The output of the forward pass.
        config: The configuration.
        loss_method: The loss method, or None.
        networks: The torch modules in the module.
        returned: Whether the loss method returned.
        loss: What it returned.
        error: What it raised, or None.
        logged: What it logged, by path.
        changes: What it changed.
        gradients: The gradients of the loss.
        kept_graphs: The attributes that lead to the graph of this step, other than those that the
            forward pass leaves for the loss method to read.
    """

    def __init__(
        self, module: Any, *, batch: Any, fwd_out: Any, config: Any, module_id: str
    ) -> None:
        """Prepares the call."""
        self.module: Any = unwrap(module)
        self.module_id: str = module_id
        self.batch: Any = batch
        self.fwd_out: Any = fwd_out
        self.config: Any = config
        self.loss_method: Any = getattr(self.module, "compute_self_supervised_loss", None)
        self.networks: Networks = Networks(self.module, module)
        self.returned: bool = False
        self.loss: Any = None
        self.error: Exception | None = None
        self.logged: dict[tuple[str, ...], Any] = {}
        self.changes: Changes = Changes()
        self.gradients: Gradients = Gradients()
        self.kept_graphs: list[str] = []
        self._wrapped = module

    @property
    def name(self) -> str:
        """The name of the module's class."""
        return (self.module if isinstance(self.module, type) else type(self.module)).__name__

    @property
    def takes_more(self) -> bool:
        """Whether the loss method has `**kwargs`."""
        # Of a decorator it is the decorator that is called.
        parameters = inspect.signature(self.loss_method, follow_wrapped=False).parameters.values()
        return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)

    def run(self) -> None:
        """Calls the loss method, if it can be called, and looks at what came of it."""
        __tracebackhide__ = True
        can_be_called = self.loss_method is not None and not isinstance(self.module, type)
        if not can_be_called or not (is_mapping(self.batch) and is_mapping(self.fwd_out)):
            return
        before = _State(self.networks, self.batch, self.fwd_out)
        recorder = _Recorder()
        with _random_state_put_back(), self.networks.put_back():
            try:
                self.loss = self._call(self.module, self.fwd_out, self._wrapped, recorder)
                self.returned = True
            except Exception as error:
                self.error = error
            self.logged = recorder.logged
            after = _State(self.networks.again(), self.batch, self.fwd_out)
            self.changes = before.changes_to(after)
            if self.returned and not self.networks.come_and_go:
                self.gradients = self._ask()
                self.kept_graphs = [
                    name
                    for name, tensor in after.graphs.items()
                    if tensor is not before.graphs.get(name)
                    or edge_of(tensor) not in self.gradients.graph
                ]

    def _call(self, module: Any, fwd_out: Any, wrapped: Any, recorder: "_Recorder") -> Any:
        __tracebackhide__ = True
        metrics = _Restricted(log_value=recorder.log_value, log_dict=recorder.log_dict)
        modules = {self.module_id: wrapped}
        arguments: dict[str, Any] = {"an_extra_argument": None} if self.takes_more else {}
        return module.compute_self_supervised_loss(
            learner=_Restricted(module=modules, config=self.config, metrics=metrics),
            module_id=self.module_id,
            config=self.config,
            batch=self.batch,
            fwd_out=fwd_out,
            **arguments,
        )

    def _ask(self) -> Gradients:
        values = [self.loss, *(value for _, value in walk(self.fwd_out, ""))]
        if not any(map(is_jax_array, values)):
            return ask_torch(self.loss, self.networks, batch=self.batch, fwd_out=self.fwd_out)
        if fault_as_scalar(self.loss):
            return Gradients()
        return ask_jax(self._call_again, self.loss, self.module, self.fwd_out)

    def _call_again(self, module: Any, fwd_out: Any) -> Any:
        return self._call(module, fwd_out, module, _Recorder())


@dataclass(frozen=True)
class Changes:
    """What a loss method changed, by name.

    Attributes:
        inputs: What `batch` and `fwd_out` hold.
        parameters: Parameters, and their gradients.
        modes: Torch modules that went from training to evaluation, or back.
        buffers: Buffers.
    """

    inputs: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)
    buffers: list[str] = field(default_factory=list)


class _State:
    """What a loss method may change, in a form that can be compared later."""

    def __init__(self, networks: Networks, batch: Any, fwd_out: Any) -> None:
        inputs = dict(_columns(batch, "batch") | _columns(fwd_out, "fwd_out"))
        self.contents = {name: content(value) for name, value in inputs.items()}
        self.versions = {
            name: [version(part) for _, part in walk(value, name)] for name, value in inputs.items()
        }
        self.parameters = networks.fingerprints()
        self.modes = networks.modes()
        self.buffers = networks.buffers()
        self.graphs = networks.tensors_with_graph()

    def changes_to(self, after: "_State") -> Changes:
        """Compares with the state after the call."""
        return Changes(
            # Slices of one buffer count their changes together, so the contents go first.
            inputs=_differing(self.contents, after.contents)
            or _differing(self.versions, after.versions),
            parameters=_differing(self.parameters, after.parameters),
            modes=_differing(self.modes, after.modes),
            # Not those that were made in the call.
            buffers=[n for n in _differing(self.buffers, after.buffers) if n in self.buffers],
        )


def _columns(data: Any, name: str) -> dict[str, Any]:
    """Returns what a batch holds, but for what it makes anew whenever it is asked."""
    columns = {key: data[key] for key in data.keys()}
    return {f"{name}[{key!r}]": value for key, value in columns.items() if data[key] is value}


def _differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name in before | after if before.get(name) != after.get(name)]


class _Restricted:
    """Has the given attributes and, asked for any other, says which.

    As with a learner, two are equal only if they are one, so that JAX can take it as static.
    """

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __getattr__(self, name: str) -> Any:
        __tracebackhide__ = True
        known = ", ".join(vars(self))
        raise AttributeError(f"not every learner has .{name} there. Ask for no more than {known}.")


class _Recorder:
    """Records what is logged. What our logger refuses, it refuses too."""

    def __init__(self) -> None:
        self._logger = MetricsLogger()
        self.logged: dict[tuple[str, ...], Any] = {}

    def log_value(self, key: Any, value: Any, **settings: Any) -> None:
        __tracebackhide__ = True
        self._logger.log_value(key, value, **settings)
        self.logged[_path(key)] = value

    def log_dict(self, value_dict: Any, *, key: Any = None, **settings: Any) -> None:
        __tracebackhide__ = True
        self._logger.log_dict(value_dict, key=key, **settings)
        self._record(value_dict, () if key is None else _path(key))

    def _record(self, values: Any, path: tuple[str, ...]) -> None:
        for name, value in values.items():
            inner_path = *path, name
            if isinstance(value, Mapping):
                self._record(value, inner_path)
            else:
                self.logged[inner_path] = value


def _path(key: Any) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key


def _random_state_put_back() -> ExitStack:
    """Puts the random state of Python, NumPy and torch back on exit, but not that of a GPU."""
    stack = ExitStack()
    for library, state in (
        ("random", "state"),
        ("numpy.random", "_state"),
        ("torch", "_rng_state"),
    ):
        if get_state := find_imported(library, f"get{state}"):
            stack.callback(find_imported(library, f"set{state}"), get_state())
    return stack
