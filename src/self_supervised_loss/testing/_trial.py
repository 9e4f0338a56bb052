"""Calls a loss method as a learner does, and records the outcome."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from traceback import StackSummary
from typing import Any, NamedTuple

from self_supervised_loss._frameworks import is_mapping, is_torch_tensor
from self_supervised_loss._metrics import MetricsLogger, to_path
from self_supervised_loss._wrappers import class_name, unwrap
from self_supervised_loss.testing._graph import Graph
from self_supervised_loss.testing._jax import is_jax_array, trace_graph
from self_supervised_loss.testing._torch import (
    Networks,
    find_networks,
    follow_graph,
    kept_graphs,
)
from self_supervised_loss.testing._torch_call import Broadcasts, settings_restored
from self_supervised_loss.testing._values import (
    Snapshot,
    changes,
    is_discrete,
    scalar_fault,
    snapshot,
    walk,
)


@dataclass(frozen=True)
class Call:
    """A loss method, and the arguments that a learner passes to it.

    Attributes:
        module: The module, without wrappers.
        wrapped: The module as the learner holds it.
        module_id: Its ID.
        config: Its configuration.
        batch: The batch.
        fwd_out: The output of the forward pass.
        forward: A function that computes this output with a module, or None.
        extras: More arguments.
    """

    module: Any
    wrapped: Any
    module_id: Any
    config: Any
    batch: Any
    fwd_out: Any
    forward: Callable[[Any], Any] | None
    extras: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of the module's class."""
        return class_name(self.module)

    @property
    def loss_method(self) -> Any:
        """The loss method, or None."""
        return getattr(self.module, "compute_self_supervised_loss", None)

    @property
    def not_accepted(self) -> list[str]:
        """The arguments that the loss method does not accept."""
        if self.loss_method is None:
            return []
        # A decorator may accept other arguments than the function inside.
        parameters = inspect.signature(self.loss_method, follow_wrapped=False).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return []
        names = {p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY}
        return [name for name in (*_ARGUMENTS, "**kwargs") if name not in names]

    @property
    def can_be_made(self) -> bool:
        """Whether a loss method accepts the arguments and finds its data by name."""
        return (
            self.loss_method is not None
            and not isinstance(self.module, type)
            and self.not_accepted in ([], ["**kwargs"])
            and is_mapping(self.batch)
            and is_mapping(self.fwd_out)
        )

    def make(self, recorder: "Recorder") -> Any:
        """Calls the loss method and returns the loss."""
        __tracebackhide__ = True
        modules = {self.module_id: self.wrapped}
        metrics = _Restricted(log_value=recorder.log_value, log_dict=recorder.log_dict)
        more = {} if self.not_accepted else {"an_extra_argument": None}
        return self.loss_method(
            learner=_Restricted(module=modules, config=self.config, metrics=metrics),
            module_id=self.module_id,
            config=self.config,
            batch=self.batch,
            fwd_out=self.fwd_out,
            **self.extras,
            **more,
        )


_ARGUMENTS = ("learner", "module_id", "config", "batch", "fwd_out")


def prepare_call(
    module: Any, *, batch: Any, fwd_out: Any, config: Any, module_id: Any, extras: dict[str, Any]
) -> Call:
    """Looks through wrappers, and runs the forward pass if it is a function of the module."""
    inner = unwrap(module)
    forward = fwd_out if callable(fwd_out) and not is_mapping(fwd_out) else None
    if forward:
        fwd_out = {} if isinstance(inner, type) else forward(module)
    return Call(inner, module, module_id, config, batch, fwd_out, forward, extras)


@dataclass(frozen=True)
class Trial:
    """A call of a loss method and its outcome, which is empty if the call cannot be made.

    Attributes:
        call: The call.
        loss: The value that the loss method returned.
        error: The exception that it raised, or None.
        logged: The last value that it logged under each path.
        changed_inputs: The columns of `batch` and `fwd_out` that it changed.
        changed_parameters: The torch parameters and gradients that it changed.
        changed_buffers: The torch buffers that it changed.
        changed_modes: The torch modules that it switched to training or to evaluation.
        changed_settings: The settings of torch that it changed. They have been restored.
        broadcasts: The shapes that it broadcast from (B, 1) and (B,), with the stack at the time.
        graph: The gradients of the loss.
        kept_graphs: The attributes of the module that keep a graph of the call.
    """

    call: Call
    loss: Any = None
    error: Exception | None = None
    logged: dict[tuple[str, ...], Any] = field(default_factory=dict)
    changed_inputs: list[str] = field(default_factory=list)
    changed_parameters: list[str] = field(default_factory=list)
    changed_buffers: list[str] = field(default_factory=list)
    changed_modes: list[str] = field(default_factory=list)
    changed_settings: list[str] = field(default_factory=list)
    broadcasts: list[tuple[str, StackSummary]] = field(default_factory=list)
    graph: Graph = field(default_factory=Graph)
    kept_graphs: list[str] = field(default_factory=list)


def make_trial(call: Call) -> Trial:
    """Makes a call, if it can be made, and compares everything before and after."""
    __tracebackhide__ = True
    if not call.can_be_made:
        return Trial(call)
    networks, recorder, broadcasts = (
        find_networks(call.module, call.wrapped),
        Recorder(),
        Broadcasts(),
    )
    before = _take_snapshots(call, networks)
    loss, error = None, None
    with settings_restored() as changed_settings, broadcasts.recorded():
        try:
            loss = call.make(recorder)
        except Exception as raised:
            error = raised
    networks_after = find_networks(call.module, call.wrapped)
    after = _take_snapshots(call, networks_after)
    has_graph = error is None and networks.are_visible
    return Trial(
        call,
        loss=loss,
        error=error,
        logged=recorder.logged,
        changed_inputs=[
            *changes(before.inputs, after.inputs),
            *(name for name in after.inputs if name not in before.inputs),
        ],
        changed_parameters=changes(before.parameters, after.parameters),
        changed_buffers=changes(before.buffers, after.buffers),
        changed_modes=changes(before.modes, after.modes),
        changed_settings=changed_settings,
        broadcasts=broadcasts.found(),
        graph=_graph(call, loss, networks_after) if has_graph else Graph(),
        kept_graphs=kept_graphs(loss, networks, networks_after, call.fwd_out) if has_graph else [],
    )


class _Snapshots(NamedTuple):
    inputs: Snapshot
    parameters: Snapshot
    buffers: Snapshot
    modes: Snapshot


def _take_snapshots(call: Call, networks: Networks) -> _Snapshots:
    data = {"batch": call.batch, "fwd_out": call.fwd_out}.items()
    return _Snapshots(
        snapshot(
            {f"{name}[{key!r}]": columns[key] for name, columns in data for key in columns.keys()}
        ),
        snapshot(networks.state()),
        snapshot(networks.buffers()),
        snapshot(networks.modes()),
    )


def _graph(call: Call, loss: Any, networks: Networks) -> Graph:
    batch, fwd_out, extras = call.batch, call.fwd_out, call.extras
    values = call.module, batch, fwd_out, loss
    if is_torch_tensor(loss) or not any(is_jax_array(value) for _, value in walk(values, "")):
        return follow_graph(loss, networks, batch=batch, fwd_out=fwd_out, extras=extras)
    if scalar_fault(loss) or is_discrete(loss):
        return Graph()

    def call_again(module: Any, fwd_out: Any, extras: Any) -> Any:
        traced = replace(call, module=module, wrapped=module, fwd_out=fwd_out, extras=extras)
        return traced.make(Recorder())

    return trace_graph(call_again, call.module, call.forward, fwd_out, extras)


class _Restricted:
    """Has the given attributes and, asked for any other, names them.

    As with a learner, two are equal only if they are identical, so JAX can take it as static.
    """

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __getattr__(self, name: str) -> Any:
        __tracebackhide__ = True
        *others, last = [f"`{known}`" for known in vars(self)]
        known = f"{', '.join(others)} and {last}"
        raise AttributeError(f"not every learner has `.{name}` here. Use only {known}.")


class Recorder(MetricsLogger):
    """Records the values that a module logs, by path."""

    def __init__(self) -> None:
        """Starts without a record."""
        super().__init__()
        self.logged: dict[tuple[str, ...], Any] = {}

    def log_value(self, key: Any, value: Any, **settings: Any) -> None:
        """Records a value."""
        super().log_value(key, value, **settings)
        self.logged[to_path(key)] = value
