"""`python -m container.cloud PORT [ADDRESS...]`: the server, at localhost and the addresses that containers reach."""

import os
import sys
import threading


def main(port: int, addresses: list[str]) -> None:
    """Serve until the process is ended."""
    # moto reads it at import, and names this server to functions by it.
    os.environ["MOTO_PORT"] = str(port)
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    from container.cloud import patches

    patches.apply()
    app = DomainDispatcherApplication(create_backend_app)
    servers = [make_server(address, port, app, threaded=True) for address in ("127.0.0.1", *addresses)]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
