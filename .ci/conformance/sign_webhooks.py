#!/usr/bin/env python3
"""Twilio's own library signs webhooks to a running bridge: sign_webhooks.py BASE PUBLIC TOKEN [ACCOUNT]

BASE is where the bridge listens (http://127.0.0.1:PORT), PUBLIC the public_url that it believes in,
TOKEN its auth token, ACCOUNT its account SID (AC and 32 zeros). Signatures are over PUBLIC, as
Twilio makes them; requests go to BASE, as a proxy sends them. Signed requests must be accepted,
with GET and POST and with parameters that are hard to sign; anything else must get 403 and no
detail. The TwiML must parse and say Connect, Stream, Parameter in Twilio's way.
"""

import http.client
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree

from twilio.request_validator import RequestValidator

ACCOUNT = "AC" + "0" * 32


class Params:
    """Name and value pairs that may repeat; RequestValidator knows such things by `getlist`."""

    def __init__(self, pairs):
        self.pairs = list(pairs)

    def __len__(self):
        return len(self.pairs)

    def __iter__(self):
        return (name for name, _ in self.pairs)

    def getlist(self, wanted):
        return [value for name, value in self.pairs if name == wanted]

    def encoded(self):
        return urllib.parse.urlencode(self.pairs)


class Bridge:
    def __init__(self, base, public, token, account):
        self.address = urllib.parse.urlsplit(base)
        self.public = public.rstrip("/")
        self.token = token
        self.account = account
        self.calls = 0

    def params(self, *more):
        """What Twilio sends for a new call, and more."""
        self.calls += 1
        return Params(
            [
                ("CallSid", f"CA{self.calls:032x}"),
                ("AccountSid", self.account),
                ("From", "+61400000001"),
                ("To", "+61200000002"),
                ("CallStatus", "ringing"),
                ("Direction", "inbound"),
                ("ApiVersion", "2010-04-01"),
                *more,
            ]
        )

    def sign(self, path, params=(), token=None):
        return RequestValidator(token or self.token).compute_signature(self.public + path, params)

    def send(self, method, path, body=None, signature=None):
        """Status, content type, body."""
        headers = {"User-Agent": "TwilioProxy/1.1", "Host": "internal.invalid"}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded; charset=UTF-8"
        if signature is not None:
            headers["X-Twilio-Signature"] = signature
        connection = http.client.HTTPConnection(
            self.address.hostname, self.address.port, timeout=15
        )
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            kind = (response.getheader("Content-Type") or "").split(";")[0].strip().lower()
            return response.status, kind, response.read()
        finally:
            connection.close()

    def post(self, path, params):
        return self.send("POST", path, params.encoded(), self.sign(path, params))

    def get(self, path, query):
        path = f"{path}?{query}"
        return self.send("GET", path, signature=self.sign(path))


def demand(condition, words):
    if not condition:
        raise AssertionError(words)


def twiml(answer):
    """The parsed answer to an accepted voice webhook."""
    status, kind, body = answer
    demand(status == 200, f"answered {status}, not 200")
    demand(kind in ("text/xml", "application/xml"), f"content type {kind!r}")
    root = ElementTree.fromstring(body)
    demand(root.tag == "Response", f"the TwiML is a {root.tag}")
    return root


def answered(bridge, answer):
    """The answer to an incoming call: Connect, Stream and at least the token as a Parameter."""
    root = twiml(answer)
    connects = root.findall("Connect")
    demand(len(connects) == 1, f"{len(connects)} Connect verbs in {[one.tag for one in root]}")
    connect = connects[0]
    demand(connect.get("method", "POST") in ("GET", "POST"), "Connect's method")
    action = connect.get("action", "")
    demand(action.startswith(f"{bridge.public}/"), f"Connect's action {action!r} is elsewhere")
    streams = list(connect)
    demand([one.tag for one in streams] == ["Stream"], "Connect must hold just one Stream")
    url = streams[0].get("url", "")
    media = "ws" + bridge.public.removeprefix("http") + "/media-stream"
    demand(url == media, f"Stream's url {url!r} is not {media!r}: no query, Twilio drops it")
    parameters = [(one.tag, one.get("name", ""), one.get("value", "")) for one in streams[0]]
    demand(parameters, "no Parameter: nothing says whose stream it will be")
    names = [name for _, name, _ in parameters]
    demand(len(set(names)) == len(names), f"Parameter names repeat: {names}")
    for tag, name, value in parameters:
        demand(tag == "Parameter" and name and value, f"a {tag} without name or value")
        demand(len(name) + len(value) <= 500, f"Parameter {name!r} is over Twilio's 500 characters")
    demand(any(len(value) >= 16 for _, _, value in parameters), "no Parameter could be a token")


def refused(answer):
    status, _, body = answer
    demand(status == 403, f"answered {status}, not 403")
    demand(len(body) < 64 and b"ignature" not in body, f"the refusal explains itself: {body[:80]!r}")


def checks(bridge):
    """Name and body of every check."""
    incoming = "/voice/incoming"
    hard = [
        ("CallerName", "Zoë Ünïcode 電話 🙂"),
        ("CallerCity", ""),
        ("Zebra", "z"),
        ("apple", "a"),
        ("Repeated", "two"),
        ("Repeated", "one"),
        ("Repeated", "two"),
        ("Signs", "a+b c%20d&e=f;g\"<>'~*"),
        ("Unknown-Field", "Twilio adds fields without notice"),
    ]
    percent = urllib.parse.quote

    def plain_post():
        answered(bridge, bridge.post(incoming, bridge.params()))

    def hard_post():
        answered(bridge, bridge.post(incoming, bridge.params(*hard)))

    def each_hard_post():
        for pair in hard:
            answered(bridge, bridge.post(incoming, bridge.params(pair)))

    def post_with_query():
        answered(bridge, bridge.post(f"{incoming}?a=1&b=%C3%AB&b=&c", bridge.params(*hard)))

    def plain_get():
        answered(bridge, bridge.get(incoming, bridge.params().encoded()))

    def hard_get():
        answered(bridge, bridge.get(incoming, bridge.params(*hard).encoded()))
        spaces = "&".join(f"{percent(n)}={percent(v)}" for n, v in bridge.params(*hard).pairs)
        answered(bridge, bridge.get(incoming, spaces))

    def repeated_call():
        params = bridge.params()
        answered(bridge, bridge.post(incoming, params))
        answered(bridge, bridge.post(incoming, params))

    def after():
        params = bridge.params(("StreamSid", "MZ" + "0" * 32), ("CallStatus", "in-progress"))
        twiml(bridge.post("/voice/after", params))

    def wrong_signatures():
        for path in (incoming, "/voice/after"):
            params = bridge.params(*hard)
            body, good = params.encoded(), bridge.sign(path, params)
            wrong = {
                "none": None,
                "empty": "",
                "no base64": "*" * 28,
                "shortened": good[:-1],
                "prolonged": good + "A",
                "of another token": bridge.sign(path, params, "0" * 32),
                "of another path": bridge.sign("/voice/other", params),
                "without the parameters": bridge.sign(path),
            }
            for name, signature in wrong.items():
                try:
                    refused(bridge.send("POST", path, body, signature))
                except AssertionError as error:
                    raise AssertionError(f"{path}, signature {name}: {error}") from None

    def altered_requests():
        params = bridge.params(("CallerCity", ""))
        good = bridge.sign(incoming, params)
        for name, altered in {
            "value": Params([*params.pairs[:-1], ("CallerCity", "x")]),
            "name": Params([*params.pairs[:-1], ("CallerCitx", "")]),
            "added": Params([*params.pairs, ("More", "x")]),
            "removed": Params(params.pairs[:-1]),
        }.items():
            try:
                refused(bridge.send("POST", incoming, altered.encoded(), good))
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from None
        query = bridge.params().encoded()
        signature = bridge.sign(f"{incoming}?{query}")
        refused(bridge.send("GET", f"{incoming}?{query}&x=1", signature=signature))
        # As a body, the same signature is worth nothing either.
        refused(bridge.send("POST", incoming, query, signature))

    return {
        "a POST as Twilio makes it": plain_post,
        "a POST with unicode, empty, repeated and oddly sorted parameters": hard_post,
        "each of these alone": each_hard_post,
        "a POST to a URL with a query": post_with_query,
        "a GET": plain_get,
        "a GET with hard parameters, spaces as + and as %20": hard_get,
        "the same call asked twice": repeated_call,
        "what comes after the stream": after,
        "wrong signatures": wrong_signatures,
        "requests altered after signing": altered_requests,
    }


def main(argv):
    if len(argv) not in (4, 5):
        sys.exit("usage: sign_webhooks.py BASE_URL PUBLIC_URL TOKEN [ACCOUNT]")
    bridge = Bridge(*argv[1:4], argv[4] if len(argv) == 5 else ACCOUNT)
    failed = 0
    for name, check in checks(bridge).items():
        try:
            check()
            print(f"ok    {name}")
        except (AssertionError, OSError, http.client.HTTPException, ElementTree.ParseError) as error:
            failed += 1
            print(f"FAIL  {name}: {type(error).__name__}: {error}")
    if failed:
        sys.exit(f"sign_webhooks.py: {failed} checks failed")


if __name__ == "__main__":
    main(sys.argv)
