"""Names of the vectors that PyJWT accepts, used as the README of Platform Tokens uses it. Arguments: the folder of the vectors."""

import datetime
import json
import pathlib
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


def verify(token):
    header = jwt.get_unverified_header(token)
    if str(header.get("typ", "")).lower() not in ("at+jwt", "application/at+jwt"):
        raise jwt.InvalidTokenError("typ")
    return jwt.decode(
        token,
        keys[header["kid"]].key,
        algorithms=algorithms,
        issuer=settings["issuer"],
        audience=settings["audience"],
        leeway=settings["leeway"],
        options={"require": ["exp", "iat", "sub", "client_id", "jti", "iss", "aud"]},
    )


def accepts(vector):
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.fromtimestamp(vector["at"], tz)

    try:
        with unittest.mock.patch.object(jwt.api_jwt, "datetime", Clock):
            verify(vector["jwt"])
        return True
    except Exception:
        # Whatever it raises, the token is not let in.
        return False


print(json.dumps([vector["name"] for vector in load("vectors.json") if accepts(vector)]))
