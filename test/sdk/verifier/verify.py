"""Names of the vectors that the README's snippet accepts. Arguments: the folder of the vectors, the README."""

import datetime
import json
import pathlib
import re
import sys
import unittest.mock

import jwt
import jwt.api_jwt

folder = pathlib.Path(sys.argv[1])


def load(name):
    return json.loads((folder / name).read_text())


settings = load("verifier.json")
keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(load("jwks.json")).keys}
# Ed25519 is a name that this version does not know (RFC 9864).
algorithms = [name for name in settings["algorithms"] if name in jwt.algorithms.get_default_algorithms()]


readme = pathlib.Path(sys.argv[2]).read_text()
snippet = re.search(r"```python\n(# Python, with PyJWT\n.*?)```", readme, re.DOTALL).group(1)
code = compile(snippet.replace('["ES256"]', repr(algorithms)), "README", "exec")


class Keys:
    """PyJWKClient without the network."""

    def __init__(self, uri):
        assert uri == f"{settings['issuer']}/oauth/jwks"

    def get_signing_key_from_jwt(self, token):
        return keys[jwt.get_unverified_header(token)["kid"]]


jwt.PyJWKClient = Keys


def accepts(vector):
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.fromtimestamp(vector["at"], tz)

    try:
        with unittest.mock.patch.object(jwt.api_jwt, "datetime", Clock):
            exec(code, {"access_token": vector["jwt"]})
        return True
    except Exception:
        # Whatever it raises, the token is not let in.
        return False


print(json.dumps([vector["name"] for vector in load("vectors.json") if accepts(vector)]))
