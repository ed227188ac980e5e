"""Entering a step: a process in the state that the step was left in.

Of a failed step that is what its process wrote, with its mounts; of any other what it made. What is
changed inside lies above that, in a kept snapshot of its own, so that it is there at the next entry
and can be told from what was there before.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from builder.absent import Absent
from builder.context import LocalContext
from builder.errors import BuildError
from builder.errors import Place as Instruction
from builder.keptstep import Given
from builder.networks import StepNetwork
from builder.ops.mounts import Place, Provided, provided
from builder.ops.process import check_emulator, execution_of, networked
from builder.request import USUAL_SANDBOX, SecretSource, SshSource
from builder.runmounts import BindMount, SecretMount, SshMount
from builder.secrets import Secrets
from builder.site import Progress, Result, Site
from builder.slots import Slots
from builder.supplies import FROZEN, Supplies
from builder.tree import Tree
from builder.vertex import RunOp, Vertex, VertexID
from runtime.cancel import Cancel
from runtime.execution import Bind, Execution
from runtime.launcher import Launchers
from store.activesnapshot import Active
from store.digest import DiffID
from store.errors import InUse
from store.keptsteps import ENTERED, kept_steps, note_of
from store.mount import OverlayMount
from store.root import Store
from store.stubs import EMPTY, ensure
from values.classes import dataclass, replace

SHELL = ("/bin/sh",)


@dataclass(frozen=True, slots=True)
class State:
    """The state of a step that can be entered.

    build_id, number, name: of the step in the journal. chain: the layers it stands on. failed: the
    kept snapshot above them, "" of a step that did not fail. given: what a process in it gets.
    left_out: what of its mounts nobody can show any more, in sentences.
    """

    build_id: str
    number: int
    name: str
    chain: tuple[DiffID, ...]
    failed: str
    given: Given
    left_out: tuple[str, ...] = ()

    @property
    def above(self) -> tuple[str, ...]:
        """The kept snapshots above the layers, topmost first."""
        return (self.failed,) if self.failed else ()


@dataclass(frozen=True, slots=True)
class EntryRequest:
    """How a step is entered.

    command: instead of a shell. fresh: nothing of what was changed inside before is there. tty: the
    command gets a terminal. secrets, ssh: what the step's mounts get.
    """

    command: tuple[str, ...] = ()
    fresh: bool = False
    tty: bool = False
    secrets: tuple[SecretSource, ...] = ()
    ssh: tuple[SshSource, ...] = ()


def made_before(state: State, store: Store) -> State:
    """Return the state of a step that did not fail, without the mounts that cannot be shown.

    What a failed step was shown is kept; of others only what lies in layers is there.
    """
    mounts, said = [], []
    for mount in state.given.op.mounts:
        if isinstance(mount, BindMount):
            cause = _why_not(mount, state.given.inputs, store)
            if cause:
                said.append(f"the bind mount at {mount.target} is left out: {cause}")
                continue
        mounts.append(mount)
    op = replace(state.given.op, mounts=tuple(mounts))
    return replace(state, given=replace(state.given, op=op), left_out=tuple(said))


def _why_not(mount: BindMount, inputs: Sequence[Sequence[DiffID]], store: Store) -> str:
    if mount.input is None:
        return "files of the context are kept of steps that fail only"
    if mount.input >= len(inputs) or not all(map(store.layers.has, inputs[mount.input])):
        return "its files were pruned"
    return ""


@contextmanager
def entered(store: Store, state: State, request: EntryRequest) -> Iterator[Execution]:
    """Make a step's state ready and give the process in it, until the block ends.

    Raises BuildError for secrets and agents that are missing, InUse while another one is inside,
    StoreError, RuntimeFailure.
    """
    with ExitStack() as stack:
        held = [stack_fd(store, name, stack) for name in kept_below(state)]
        active = stack.enter_context(opened(store, state, fresh=request.fresh))
        site = stack.enter_context(bare_site(store, request))
        place = place_of(state, site)
        op = state.given.op
        check_emulator(op, place.vertex)
        check_supplies(state, place)
        others = tuple(mount for mount in op.mounts if not isinstance(mount, BindMount))
        mounts = stack.enter_context(provided(replace(op, mounts=others), place))
        add_binds(state, store, mounts, stack)
        mounts.lock_fds += held
        op = with_proxies(state.given)
        execution = networked(execution_of(op, active, mounts, place), op, site)
        env = execution.env
        if request.tty and not any(item.startswith("TERM=") for item in env):
            env = (*env, f"TERM={os.environ.get('TERM', 'xterm')}")
        yield replace(execution, args=request.command or SHELL, env=env, tty=request.tty, stdin=0)


def stack_fd(store: Store, snapshot: str, stack: ExitStack) -> int:
    """Hold a kept snapshot until `stack` ends. Raises InUse, NotFound."""
    try:
        fd = store.snapshots.claim(snapshot)
    except InUse as error:
        raise InUse(
            "the step is entered already", hint="leave the other shell first, or work in that one"
        ) from error
    stack.callback(os.close, fd)
    return fd


def kept_below(state: State) -> list[str]:
    """Return the kept snapshots that a state is made of."""
    binds = (name for names in state.given.binds.values() for name in names)
    return list(dict.fromkeys([*state.above, *binds]))


@contextmanager
def opened(store: Store, state: State, *, fresh: bool) -> Iterator[Active]:
    """Open what takes the changes made inside a step; it is kept from now on. Raises InUse."""
    known = entry_of(store, state)
    if known is not None and fresh:
        store.snapshots.remove(known)
        known = None
    with ExitStack() as stack:
        if known is not None:
            try:
                active = stack.enter_context(store.snapshots.reopen(known))
            except InUse as error:
                raise InUse(
                    f"build {state.build_id}: its step {state.number} is entered already",
                    hint="leave the other shell first",
                ) from error
        else:
            made = store.snapshots.prepare(state.chain, stubs=True, above=state.above)
            active = stack.enter_context(made)
            shown = [diff_id for chain in state.given.inputs for diff_id in chain]
            active.keep(note_of(state.build_id, state.number, ENTERED, state.name, shown))
        active.unlease()  # a shell may be open for days; the note names the layers
        yield active


def entry_of(store: Store, state: State) -> str | None:
    """Return the kept snapshot with what was changed inside a step, None where there is none."""
    kept = kept_steps(store, state.build_id)
    found = [step for step in kept if (step.number, step.role) == (state.number, ENTERED)]
    return found[0].snapshot if found else None


@contextmanager
def bare_site(store: Store, request: EntryRequest) -> Iterator[Site]:
    """Give what a step's mounts need of a build, without one: there is no context."""
    secrets = Secrets(request.secrets)
    secrets.check()
    agents = None
    if request.ssh:
        # subprocess and socket take 10 ms to import.
        from builder.sshagent import SshAgents

        agents = SshAgents(request.ssh)
        agents.check()
    ensure(store.folder)
    with ExitStack() as stack:
        supplies = stack.enter_context(Supplies(store, secrets, agents))
        cancel = stack.enter_context(Cancel())
        nothing = store.folder.path(EMPTY)
        fd = os.open(nothing, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        context = LocalContext(nothing, Tree(fd), None, None)
        stack.callback(context.close)
        yield Site(
            store,
            context,
            Progress(lambda _event: None),
            cancel,
            "",
            "",
            lambda *_: None,
            Slots(1),
            supplies,
            stack.enter_context(Launchers()),
            stack.enter_context(StepNetwork("default", USUAL_SANDBOX)),
            Absent(store),
            journal_name="",
        )


def place_of(state: State, site: Site) -> Place:
    """Return the step as its mounts see it."""
    name, line = state.given.place
    vertex = Vertex(
        VertexID(""),
        state.given.op,
        (),
        name=state.name,
        title=state.name,
        stage="",
        step=0,
        place=Instruction(name, line, line),
    )
    return Place(vertex, [Result(chain) for chain in state.given.inputs], site)


def check_supplies(state: State, place: Place) -> None:
    """Raise BuildError for a secret or an agent that the step had and that is not given now."""
    supplies = place.site.supplies
    missing = []
    for mount in state.given.op.mounts:
        if isinstance(mount, SecretMount) and f"secret {mount.id}" in state.given.supplied:
            if supplies.secrets.value(mount.id) is None:
                missing.append((f'secret "{mount.id}"', f"--secret id={mount.id},src=FILE"))
        elif isinstance(mount, SshMount) and f"ssh {mount.id}" in state.given.supplied:
            agents = supplies.agents
            if agents is None or agents.socket_path(mount.id) is None:
                missing.append((f'ssh agent "{mount.id}"', f"--ssh {mount.id}"))
    if missing:
        what = missing[0][0]
        raise BuildError(
            f"step {state.number}: {what} is not given, and the step had it",
            hint=f"give it again: {' '.join(dict.fromkeys(option for _, option in missing))}",
        )


def add_binds(state: State, store: Store, mounts: Provided, stack: ExitStack) -> None:
    """Add the bind mounts of a step: what they showed, with what its process wrote to them.

    What is written to them inside is thrown away, as in a build.
    """
    for number, mount in enumerate(state.given.op.mounts):
        if isinstance(mount, BindMount):
            kept = state.given.binds.get(number, ())
            mounts.binds.append(bind_of(mount, state.given.inputs, kept, store, mounts, stack))


def bind_of(
    mount: BindMount,
    inputs: Sequence[Sequence[DiffID]],
    kept: Sequence[str],
    store: Store,
    mounts: Provided,
    stack: ExitStack,
) -> Bind:
    """Return one bind mount. kept: the snapshots that were made for it, topmost first."""
    chain = inputs[mount.input] if mount.input is not None else ()
    subpath = mount.path if mount.input is not None else FROZEN
    if not mount.read_only:
        active = stack.enter_context(store.snapshots.prepare(chain, above=kept))
        mounts.lock_fds.append(active.lock_fd)
        return Bind(active.mount, mount.target, False, subpath)
    view = store.snapshots.view(chain)
    if kept:
        view = OverlayMount(store.root, (store.snapshots.files_of(kept[0]),))
    return Bind(view, mount.target, True, subpath)


def with_proxies(given: Given) -> RunOp:
    """Return the process with the proxy variables that it had, as they are here and now."""
    found = ((name, os.environ[name]) for name in given.proxies if name in os.environ)
    return replace(given.op, proxy_env=tuple(found))
