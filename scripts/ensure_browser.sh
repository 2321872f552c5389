#!/bin/sh
# Installs Chromium for the browser tests where it is missing and the system's package manager can (Debian, Ubuntu).
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && exit 0
done
[ -n "$LSN_CHROMIUM" ] && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing chromium for the browser tests"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null && exit 0
fi
echo "No Chromium: install it (Debian: apt-get install chromium) or set LSN_CHROMIUM; browser tests will not run." >&2
exit 0
