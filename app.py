"""Starts the app: `python app.py`, then open http://127.0.0.1:7860.

Environment: LSN_BACKBONE (default 'embedded'), LSN_PUBLIC (1: strangers use it, so backbones come from a fixed list;
default: whenever the server listens on more than this machine), GRADIO_SERVER_NAME, GRADIO_SERVER_PORT.
"""

import logging
import os

from lsn_app import Settings, build_app, launch_options


def main() -> None:
    """Builds the page and serves it until stopped."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    host = os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    port = int(os.environ.get("GRADIO_SERVER_PORT") or 7860)
    local = host in ("127.0.0.1", "localhost", "::1")
    public = os.environ.get("LSN_PUBLIC", "0" if local else "1").lower() in ("1", "true", "yes")
    page = build_app(Settings(backbone=os.environ.get("LSN_BACKBONE") or "embedded", public=public))
    page.launch(server_name=host, server_port=port, **launch_options())


if __name__ == "__main__":
    main()
