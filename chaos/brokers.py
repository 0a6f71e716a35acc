"""A broker that is one of several, and that workers reach through a proxy."""

from pathlib import Path
from typing import ClassVar

from consumer.local.kafka import _PROPERTIES, KafkaBroker, default_cache
from consumer.local.server import HOST


class ChaosBroker(KafkaBroker):
    """A broker of a cluster, which tells the workers the address of its proxy.

    Args:
        directory: Where it keeps everything.
        log: File its output is appended to.
        number: Its node id.
        cluster_id: The same for all brokers.
        ports: For clients, controllers, and the workers' proxy to connect to.
        voters: Controller port by node id.
        proxy_port: What workers are told.
    """

    ports_needed: ClassVar[int] = 3

    def __init__(
        self,
        directory: Path,
        log: Path,
        *,
        number: int,
        cluster_id: str,
        ports: tuple[int, int, int],
        voters: dict[int, int],
        proxy_port: int,
    ) -> None:
        super().__init__(directory, log, cache=default_cache())
        self.number = number
        self._wanted_cluster_id = cluster_id
        self._ports = ports  # the others have to know them before it starts
        self._voters = voters
        self.proxy_port = proxy_port

    @property
    def proxied_port(self) -> int:
        """Where its proxy connects to."""
        return self._ports[2]

    def _command(self) -> list[str]:
        command = super()._command()
        properties = Path(command[-1])
        port, controller_port, proxied_port = self._ports
        text = _PROPERTIES.format(
            host=HOST, port=port, controller_port=controller_port, data=self._data
        )
        lines = dict(line.split("=", 1) for line in text.splitlines())
        count = len(self._voters)
        lines |= {
            "node.id": str(self.number),
            "controller.quorum.voters": ",".join(
                f"{n}@{HOST}:{p}" for n, p in self._voters.items()
            ),
            "listeners": f"PLAINTEXT://{HOST}:{port},WORKERS://{HOST}:{proxied_port},"
            f"CONTROLLER://{HOST}:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{port},WORKERS://{HOST}:{self.proxy_port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,WORKERS:PLAINTEXT,"
            "CONTROLLER:PLAINTEXT",
            "offsets.topic.replication.factor": str(count),
            "transaction.state.log.replication.factor": str(count),
            "transaction.state.log.min.isr": str(min(2, count)),
            "share.coordinator.state.topic.replication.factor": str(count),
            "min.insync.replicas": str(min(2, count)),
            # leaders go home soon, so that the next broker killed is a leader again
            "leader.imbalance.check.interval.seconds": "10",
            "leader.imbalance.per.broker.percentage": "0",
        }
        properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        return command

    def _format(self) -> None:
        super()._format()
        lines = dict(line.split("=", 1) for line in self._meta.read_text().splitlines())
        lines |= {"node.id": str(self.number), "cluster.id": self._wanted_cluster_id}
        self._meta.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
