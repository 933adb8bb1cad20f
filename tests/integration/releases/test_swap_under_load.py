"""10,000 requests in a closed loop while the channel moves 50 times: no failed request, and no answer of the wrong release."""

import json
import threading
import time
from pathlib import Path
from types import ModuleType

from integration.conftest import StartFunction
from lambda_torch.releases import channels
from lambda_torch.releases.bucket import Bucket
from lambda_torch.releases.publishing import publish
from model import Model, Request

REQUESTS = 10_000
MOVES = 50
ENVIRONMENTS = 2
ASKED = [
    {"category": category, "start_letters": letters}
    for category in ("Russian", "Greek", "Dutch")
    for letters in ("R", "US", "ABC", "xyz")
]


class Client(threading.Thread):
    """Sends request after request to one environment, and checks every answer.

    Args:
        app: the environment.
        expected: for each release, the answers to ASKED.
        clients: all clients, which together send REQUESTS.
    """

    def __init__(self, app: ModuleType, expected: dict[str, list[str]], clients: list["Client"]) -> None:
        super().__init__()
        self.app = app
        self.expected = expected
        self.clients = clients
        self.sent = 0
        self.wrong: list[object] = []
        self.changes = 0

    def run(self) -> None:
        """Until all requests are sent; the first wrong answer ends it."""
        before = None
        while sum(each.sent for each in self.clients) < REQUESTS and not self.wrong:
            number = self.sent % len(ASKED)
            answer = self.app.lambda_handler(ASKED[number], None)
            version = answer["headers"].get("X-Model-Version")
            if answer["statusCode"] != 200 or answer["body"] != self.expected[version][number]:
                self.wrong.append((ASKED[number], answer))
            self.changes += before not in (None, version)
            before = version
            self.sent += 1


def test_no_request_fails_and_every_answer_is_its_releases_own(
    bucket: Bucket, folders: list[Path], start_function: StartFunction, tmp_path: Path
) -> None:
    """Promotions and rollbacks between releases that answer differently never make a request fail or mix two releases."""
    done = [publish(folder, bucket, channel=None) for folder in folders]
    channels.promote(bucket, "live", done[0].release.ref)
    expected = {}
    for each, folder in zip(done, folders, strict=True):
        model = Model.load(folder)
        expected[each.version] = [
            model.predict([Request.model_validate(asked)])[0].model_dump_json() for asked in ASKED
        ]
    assert len({json.dumps(answers) for answers in expected.values()}) == len(folders)

    apps = [
        start_function(
            MODEL_BUCKET=bucket.name,
            RELEASE_CACHE=str(tmp_path / f"cache-{number}"),
            RELEASE_REFRESH_SECONDS="0.05",
            LOG_LEVEL="ERROR",
        )
        for number in range(ENVIRONMENTS)
    ]
    clients: list[Client] = []
    clients += [Client(app, expected, clients) for app in apps]
    for client in clients:
        client.start()
    try:
        for move in range(MOVES):
            # Spread over the whole run, and each seen by both environments while they answer.
            while sum(client.sent for client in clients) < REQUESTS * move // MOVES and not any(
                c.wrong for c in clients
            ):
                time.sleep(0.005)
            if move % 3 == 2:
                channels.rollback(bucket, "live")
            else:
                current = bucket.channel("live").channel
                assert current is not None
                following = ([each.version for each in done].index(current.current.version) + 1) % len(done)
                channels.promote(bucket, "live", done[following].release.ref)
    finally:
        for client in clients:
            client.join()
    assert [client.wrong for client in clients] == [[]] * ENVIRONMENTS
    assert sum(client.sent for client in clients) >= REQUESTS
    assert [app.service.follower.counters.failures for app in apps] == [0] * ENVIRONMENTS
    # Whether an environment sees every single move depends on the machine; that it took part does not.
    assert all(client.changes >= 5 for client in clients), [client.changes for client in clients]
