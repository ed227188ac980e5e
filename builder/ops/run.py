"""RUN as a step: its key, and the layer that its process makes."""

import time
from collections.abc import Sequence

from builder.adoption import Adoption, Window, instruction_of
from builder.cachekey import SECRETS
from builder.isolation import isolation_of
from builder.ops.mounts import Place, files_of_mounts, key_of_mounts, secret_value
from builder.ops.registry import Ingredients, Made, describe, perform
from builder.ops.tries import tried
from builder.request import Sandbox
from builder.runmounts import SecretMount
from builder.site import Result, Site, Step
from builder.vertex import RunOp, Vertex
from store.salt import salted_digest


@describe.register
def describe_run(op: RunOp, vertex: Vertex, inputs: Sequence[Result], site: Site) -> Ingredients:
    """RUN: what the process is given. Proxy variables and values of secrets do not count."""
    place = Place(vertex, inputs, site)
    keyed = {
        "args": list(op.args),
        "env": [f"{name}={value}" for name, value in op.env],
        "cwd": op.cwd,
        "user": op.user,
        "network": op.keyed_network,
        "hostname": op.hostname,
        "security": op.security,
        "mounts": key_of_mounts(op.mounts, place),
        **key_of_sandbox(op.sandbox),
        **key_of_secrets(op, place),
        **key_of_isolation(op.sandbox),
    }
    noted: dict[str, object] = {"files": files_of_mounts(op.mounts, place)} if op.mounts else {}
    return Ingredients(keyed, noted)


def key_of_isolation(sandbox: Sandbox) -> dict[str, object]:
    """Return what a weaker wall adds to a key: what is run behind it may turn out otherwise."""
    isolation = isolation_of(sandbox)
    return {"fidelity": isolation} if isolation in ("chroot", "shared") else {}


def key_of_secrets(op: RunOp, place: Place) -> dict[str, object]:
    """Return what values of secrets add to a key: nothing unless the step's policy asks for it.

    A digest that only this store can make stands for a value, None for a secret that is not given.
    """
    ids = [mount.id for mount in op.mounts if isinstance(mount, SecretMount)]
    if not ids or not place.vertex.policies.secret_key:
        return {}
    folder = place.site.store.folder
    found: dict[str, str | None] = {}
    for id_ in ids:
        value = secret_value(id_, place)
        found[id_] = None if value is None else salted_digest(folder, id_, value)
    return {SECRETS: found}


def key_of_sandbox(sandbox: Sandbox) -> dict[str, object]:
    """Return what the build's settings add to a key: nothing where they are the usual ones."""
    limits = sorted((limit.name, limit.soft, limit.hard) for limit in sandbox.ulimits)
    found: dict[str, object] = {
        "extra_hosts": [list(pair) for pair in sandbox.extra_hosts],
        "shm_bytes": sandbox.shm_bytes,
        "ulimits": [list(limit) for limit in limits],
        "sandbox_env": [list(pair) for pair in sandbox.env],
    }
    return {name: value for name, value in found.items() if value not in ([], None)}


@perform.register
def perform_run(
    op: RunOp, vertex: Vertex, inputs: Sequence[Result], site: Site, step: Step
) -> Made:
    """Run the process and make a layer of what it changed, or find that it is made already."""
    from builder.ops.process import facts_of, run_process  # the runtime: a cached step does without

    def attempt() -> Made:
        started_ns = time.time_ns()
        walled = isolation_of(op.sandbox) in ("namespaces", "shared")
        if walled:
            # They get ready while the snapshot is made.
            if op.network == "default":
                site.network.prepare()
            site.launchers.prepare()
        instruction = instruction_of(op, inputs[0].chain)
        with site.store.snapshots.prepare(inputs[0].chain, stubs=walled) as active:
            status = run_process(op, Place(vertex, inputs, site), active, step)
            adoption = Adoption(site.store, instruction, Window(started_ns, time.time_ns()))
            instead = None if vertex.no_cache else adoption.choose
            info = active.commit(instead=instead, watcher=site.watch(vertex))
        facts = facts_of(status)
        return Made(info.diff_id, info.size_bytes, facts, instruction, adoption.found)

    return tried(attempt, vertex, site, step)
