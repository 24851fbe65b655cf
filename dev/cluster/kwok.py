"""KWOK_NODES=n: fake nodes of 8 GPUs each, for load tests of the operator without the load of the pods.

kwok plays the kubelet of nodes that do not exist: pods that tolerate their taint are scheduled there, "run" and
complete without a process anywhere. It runs as a pod on the control plane.
"""

from dev.cluster import settings


def ensure(config: settings.Settings) -> None:
    if config.kwok_nodes:
        raise settings.UserError("KWOK_NODES: not there yet")


def stop(config: settings.Settings) -> None:
    pass


def describe(config: settings.Settings) -> str:
    return "kwok nodes: 0"
