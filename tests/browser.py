"""A headless Chromium that is told what to do through its own protocol, over pipes.

Real keys and clicks, and no package: the DevTools protocol is JSON with a zero byte
after each message, and ``--remote-debugging-pipe`` reads it from descriptor 3.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
OPTIONS = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-dev-shm-usage',
    '--disable-sync',
    '--hide-scrollbars',
    '--remote-debugging-pipe',
]
KEYS = {'Escape': 27, 'Enter': 13, 'Tab': 9} | {
    f'Arrow{way}': code for code, way in enumerate(('Left', 'Up', 'Right', 'Down'), 37)
}


def find_browser() -> str | None:
    """Path of an installed Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One page in the browser."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._rest, self._count = b'', 0
        self._session: dict[str, str] = {}
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        attached = self.call('Target.attachToTarget', targetId=target, flatten=True)
        self._session = dict(sessionId=attached['sessionId'])
        self.call('Page.enable')

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command of the protocol."""
        self._count += 1
        message = dict(id=self._count, method=method, params=params, **self._session)
        os.write(self._send, json.dumps(message).encode() + b'\0')
        while (answer := self._next()).get('id') != self._count:
            pass
        assert 'error' not in answer, (method, answer)
        return answer['result']

    def open(self, path: Path, width: int = 1200, height: int = 900) -> None:
        """Open a file in a window of that size; returns when it is loaded."""
        metrics = dict(width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call('Emulation.setDeviceMetricsOverride', **metrics)
        self.call('Page.navigate', url=path.resolve().as_uri())
        while self._next().get('method') != 'Page.loadEventFired':
            pass

    def value(self, expression: str) -> Any:
        """What JavaScript makes of an expression; a promise is waited for."""
        found = self.call(
            'Runtime.evaluate',
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        assert 'exceptionDetails' not in found, found['exceptionDetails']
        return found['result'].get('value')

    def wait(self, condition: str) -> None:
        """Wait until JavaScript finds the condition true, 20 s at most."""
        found = self.value(
            '(async () => { const end = performance.now() + 20000;'
            f'while (!({condition}) && performance.now() < end)'
            f'await new Promise(requestAnimationFrame); return !!({condition}); }})()'
        )
        assert found, condition

    def click(self, selector: str) -> None:
        """Click on the middle of the first element that matches, if it can be seen."""
        # Scrolled to twice: parts that come into view get their sizes only then.
        place = self.value(
            '(async () => { const one ='
            f'document.querySelector({json.dumps(selector)});'
            "for (let i = 0; i < 2; i++) { one.scrollIntoView({block: 'center'});"
            'await new Promise(requestAnimationFrame); }'
            'const box = one.getBoundingClientRect();'
            'return [box.x + box.width / 2, box.y + box.height / 2]; })()'
        )
        for kind in ('mousePressed', 'mouseReleased'):
            place_of = dict(x=place[0], y=place[1], button='left', clickCount=1)
            self.call('Input.dispatchMouseEvent', type=kind, **place_of)
        self._look()

    def press(self, key: str) -> None:
        """Press and release a key of ``KEYS``."""
        code = dict(key=key, code=key, windowsVirtualKeyCode=KEYS[key])
        text = dict(text='\r') if key == 'Enter' else {}
        self.call('Input.dispatchKeyEvent', type='keyDown', **code, **text)
        self.call('Input.dispatchKeyEvent', type='keyUp', **code)

    def choose(self, name: str, value: str) -> None:
        """Set a field of the page's form, as a person does."""
        self.value(
            f'(() => {{ const field = document.querySelector(\'[name="{name}"]\');'
            f'field.value = {json.dumps(value)};'
            "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
        self._look()

    def _look(self) -> None:
        """See what an action did, as a person before the next: the page scrolls too."""
        for _ in range(3):
            self.value('new Promise(requestAnimationFrame)')

    def screenshot(self) -> bytes:
        """A PNG of what the window shows."""
        return base64.b64decode(self.call('Page.captureScreenshot')['data'])

    def _next(self) -> dict[str, Any]:
        while b'\0' not in self._rest:
            chunk = os.read(self._receive, 1 << 20)
            assert chunk, 'the browser ended'
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b'\0')
        return json.loads(message)


@contextmanager
def open_browser() -> Iterator[Tab]:
    """A tab of a new browser, which ends with the block."""
    browser = find_browser()
    assert browser is not None
    there, send = os.pipe()
    receive, back = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The shell gives both ends the numbers that the browser expects.
        command = f'exec "$0" "$@" 3<&{there} 4>&{back}'
        process = subprocess.Popen(
            ['bash', '-c', command, browser, *OPTIONS, f'--user-data-dir={profile}'],
            pass_fds=(there, back),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there)
        os.close(back)
        try:
            yield Tab(send, receive)
        finally:
            process.terminate()
            process.wait()
            os.close(send)
            os.close(receive)
