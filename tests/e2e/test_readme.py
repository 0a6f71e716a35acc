"""What the README shows is what happens."""

import json
import re
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from pathlib import Path

from tests.e2e.conftest import Deploy

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


async def test_the_snippet_sends_a_signal_and_shows_its_decision(deploy: Deploy) -> None:
    """A second time, too: the decision of a signal that was sent before is there already."""
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    deployment = await deploy()
    await deployment.started()
    topics = deployment.topics
    code = snippet.replace('"signals"', repr(topics.signals)).replace(
        '"strategy-decisions"', repr(topics.decisions)
    )

    for _ in range(2):
        process = await create_subprocess_exec(
            sys.executable, "-c", code, env=deployment.environment(), stdout=PIPE
        )
        out, _ = await process.communicate()

        assert process.returncode == 0
        decision = json.loads(out)
        assert (decision["symbol"], decision["strategy"]) == ("BTCUSDT", "ultra_aggressive")
        assert decision["tpsl"]["stop_loss"] < 100_000 < decision["tpsl"]["take_profit_1"]
