#!/usr/bin/env bash
# Picture of an HTML file in a headless Chromium, of a window as high as asked for.
set -euo pipefail

usage='usage: tools/dev/screenshot.sh PAGE.html PICTURE.png [WIDTH] [HEIGHT] [light|dark]'
page=${1:?$usage}
picture=${2:?$usage}
width=${3:-1400}
height=${4:-2000}
scheme=${5:-light}

browser=$(command -v chromium || command -v chromium-browser ||
    command -v google-chrome) || {
    echo 'screenshot.sh: no Chromium found; on Debian: apt-get install chromium' >&2
    exit 1
}
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT

# Blink takes 0 for dark and 1 for light.
preferred=1
[ "$scheme" = dark ] && preferred=0

"$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
    --disable-background-networking --disable-component-update --disable-sync \
    --user-data-dir="$profile" --hide-scrollbars \
    --blink-settings="preferredColorScheme=$preferred" \
    --window-size="$width,$height" --screenshot="$(realpath -m "$picture")" \
    "file://$(realpath "$page")"
