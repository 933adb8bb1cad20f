"""Many clients, two environments, a swap every second, and an environment killed every few seconds.

    every answer is that of the release which it names
    a bad request is refused with a status of its own, and never with 5xx
    a request fails only where its environment was killed

The function runs as under `make serve`, and S3 is moto's server. `make soak` runs this for three minutes.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integration.releases.samples import folder_of
from lambda_torch import project
from lambda_torch.emulator import software
from lambda_torch.emulator.function import InvokeResult
from lambda_torch.emulator.pool import Pool
from lambda_torch.emulator.run import BUCKET, Reports, RunOptions, running
from lambda_torch.releases import channels
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish

CLIENTS = 32
ENVIRONMENTS = 2
RELEASES = 3
SWAP_EVERY_SECONDS = 1.0
# Between two kills, at random.
KILL_EVERY_SECONDS = (3.0, 8.0)
BAD_SHARE = 0.3

ASKED = [
    {"category": category, "start_letters": letters}
    for category in ("Russian", "Greek", "Dutch")
    for letters in ("R", "US", "ABC", "xyz")
]


@dataclass
class SoakOutcome:
    """What happened.

    Attributes:
        counts: requests by outcome.
        named: good answers, by the release that they name.
        wrong: what must not happen: the first ones, in words.
        swaps: how often the channel was moved.
        kills: how many environments were killed.
    """

    counts: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    swaps: int = 0
    kills: int = 0


def bad_event(chance: random.Random) -> dict[str, Any]:
    """A request that the function must refuse, of a random kind."""
    good = chance.choice(ASKED)
    value: Any = chance.choice([None, True, -1, 1e300, [], {}, "\ud800", "x" * 1000, [[[[]]]], {"a": {"b": 0}}])
    body: str | None = chance.choice(
        [
            json.dumps(good | {chance.choice(list(good)): value}),
            json.dumps({"category": "Klingon", "start_letters": "Q"}),
            json.dumps(good)[: chance.randrange(40)],
            json.dumps([good] * 101),
            json.dumps(chance.choice([0, "text", None, {}, {"unknown": 1}])),
            "[" * chance.choice([10, 5_000]),
            "{" + "\u00a0" * 9,
            json.dumps(good | {"start_letters": "A" * 1_100_000}),
            None,
        ]
    )
    event = {"httpMethod": "POST", "path": "/predict", "headers": {"Content-Type": "application/json"}, "body": body}
    kind = chance.random()
    if kind < 0.1:
        return event | {"httpMethod": chance.choice(["DELETE", "PUT", "PATCH"])}
    if kind < 0.2:
        return event | {"path": f"/{chance.randbytes(4).hex()}"}
    if kind < 0.3:
        return event | {"body": "\u00fc not base64", "isBase64Encoded": True}
    return event


class SoakClient(threading.Thread):
    """Sends one request after the other until the time is over, and judges every answer.

    Args:
        pool: the environments.
        expected: for each release, its answers to ASKED.
        end: when to stop, in monotonic seconds.
        seed: for the choice of requests.
        outcome: takes what happened; shared by all clients.
        lock: for the outcome.
    """

    def __init__(
        self,
        pool: Pool,
        expected: Mapping[str, Sequence[Any]],
        end: float,
        seed: int,
        outcome: SoakOutcome,
        lock: threading.Lock,
    ) -> None:
        super().__init__(name=f"client {seed}", daemon=True)
        self._pool, self._expected, self._end = pool, expected, end
        self._chance, self._outcome, self._lock = random.Random(seed), outcome, lock

    def run(self) -> None:
        """Send and judge."""
        while time.monotonic() < self._end:
            is_bad = self._chance.random() < BAD_SHARE
            number = self._chance.randrange(len(ASKED))
            event = bad_event(self._chance) if is_bad else {"httpMethod": "POST", "path": "/predict", "headers": {}}
            if not is_bad:
                event["body"] = json.dumps(ASKED[number])
            result = self._pool.submit(json.dumps(event).encode()).result()
            with self._lock:
                if is_bad:
                    self._judge_refusal(event, result)
                else:
                    self._judge(number, result)

    def _judge(self, number: int, result: InvokeResult) -> None:
        answer = self._read(result)
        if answer is None:
            return
        version = answer["headers"].get("X-Model-Version")
        if answer["statusCode"] != 200 or version not in self._expected:
            self._wrong(f"{ASKED[number]}: {answer}")
        elif json.loads(answer["body"]) != self._expected[version][number]:
            self._wrong(f"{ASKED[number]} of {version}: {answer['body']}")
        else:
            self._outcome.counts["answered"] += 1
            self._outcome.named[version] += 1

    def _judge_refusal(self, event: Mapping[str, Any], result: InvokeResult) -> None:
        answer = self._read(result)
        if answer is None:
            return
        if not 400 <= answer["statusCode"] < 500 or not json.loads(answer["body"])["error"]["code"]:
            self._wrong(f"{str(event)[:300]}: {str(answer)[:300]}")
        else:
            self._outcome.counts["refused"] += 1

    def _read(self, result: InvokeResult) -> Any:
        """The function's answer; None where the request failed with its environment."""
        if result.failed:
            kind = json.loads(result.payload).get("errorType", "?")
            self._outcome.counts[f"failed: {kind}"] += 1
            return None
        return json.loads(result.payload)

    def _wrong(self, what: str) -> None:
        self._outcome.counts["wrong"] += 1
        if len(self._outcome.wrong) < 20:
            self._outcome.wrong.append(what)


def kill_one(pool: Pool, chance: random.Random) -> bool:
    """Kill the process of an environment. Returns whether there was one."""
    processes = pool.processes()
    if not processes:
        return False
    try:
        os.kill(chance.choice(processes), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def soak(seconds: float, seed: int) -> SoakOutcome:
    """Run everything for so many seconds, and return what happened."""
    outcome, chance, lock = SoakOutcome(), random.Random(seed), threading.Lock()
    project.use_function_code()
    from model import Model, Request

    with tempfile.TemporaryDirectory() as scratch:
        folders = [folder_of(Path(scratch, str(number)), number, loss=1.5 + number) for number in range(RELEASES)]
        options = RunOptions(
            software.stock(),
            folders[0],
            ENVIRONMENTS,
            variables={"RELEASE_REFRESH_SECONDS": "0.2", "LOG_LEVEL": "ERROR"},
            all_at_once=True,
            shipped_emulator=True,
        )
        first = json.dumps({"httpMethod": "GET", "path": "/health", "headers": {}}).encode()
        with running(options, first, Reports(lambda _: None, lambda _: None, lambda _: None)) as run:
            bucket = Bucket(run.storage.client(), BUCKET)
            published = [publish(folder, bucket, channel=None).release.ref for folder in folders]
            expected = {
                ref.version: [
                    Model.load(folder).predict([Request.model_validate(asked)])[0].model_dump(mode="json")
                    for asked in ASKED
                ]
                for ref, folder in zip(published, folders, strict=True)
            }
            end = time.monotonic() + seconds
            clients = [SoakClient(run.pool, expected, end, seed + n, outcome, lock) for n in range(CLIENTS)]
            for client in clients:
                client.start()
            swap_at = kill_at = time.monotonic()
            while (now := time.monotonic()) < end:
                if now >= swap_at:
                    swap_at = now + SWAP_EVERY_SECONDS
                    outcome.swaps += 1
                    channels.promote(bucket, "live", published[outcome.swaps % RELEASES])
                if now >= kill_at:
                    kill_at = now + chance.uniform(*KILL_EVERY_SECONDS)
                    outcome.kills += kill_one(run.pool, chance)
                time.sleep(0.05)
            for client in clients:
                client.join(120)
            if any(client.is_alive() for client in clients):
                outcome.wrong.append("a request was never answered")
    return outcome


def problems(outcome: SoakOutcome) -> list[str]:
    """What went against the promises; empty if all is well."""
    found = list(outcome.wrong)
    failed = sum(count for what, count in outcome.counts.items() if what.startswith("failed"))
    # An environment answers one request at a time, so a kill costs one request at most.
    if failed > outcome.kills:
        found.append(f"{failed} requests failed, and {outcome.kills} environments were killed")
    if len(outcome.named) < RELEASES:
        found.append(f"only {len(outcome.named)} of {RELEASES} releases answered")
    return found


def main() -> None:
    """Soak from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0, help="how long (default: 180)")
    parser.add_argument("--seed", type=int, default=None, help="the same choices again; the default is a new one")
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"Seed {seed}, {arguments.seconds:.0f} s: {CLIENTS} clients, {ENVIRONMENTS} environments", file=sys.stderr)
    outcome = soak(arguments.seconds, seed)
    for what, count in sorted(outcome.counts.items()):
        print(f"{count:8}  {what}")
    print(f"{outcome.swaps:8}  swaps")
    print(f"{outcome.kills:8}  environments killed")
    if found := problems(outcome):
        for problem in found:
            print(f"FOUND {problem}", file=sys.stderr)
        sys.exit(f"{len(found)} findings")


if __name__ == "__main__":
    main()
