#!/bin/sh
# Installs redis-server for the tests of the job queue where it is missing and the system's package manager can.
command -v redis-server >/dev/null && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing redis-server for the tests of the job queue"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null && exit 0
fi
echo "No redis-server: install it (Debian: apt-get install redis-server); its tests will not run." >&2
exit 0
