#!/bin/sh
# Fetches onnxruntime-web for the test of the page that exported detectors come with, by npm.
folder=.venv/onnxruntime-web
[ -f "$folder/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs" ] && exit 0
if command -v npm >/dev/null; then
    echo "Fetching onnxruntime-web for the browser tests"
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$folder" onnxruntime-web@1.22.0 >/dev/null && exit 0
fi
echo "No onnxruntime-web: npm is missing or reaches no registry; the test of the exported page will not run." >&2
exit 0
