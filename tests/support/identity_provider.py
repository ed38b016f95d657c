"""An identity provider: signs tokens, and serves its public keys over HTTP on loopback."""

import json
import time
from contextlib import asynccontextmanager

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

MAKE = {"RS256": lambda: rsa.generate_private_key(65537, 2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate}
_AS_JWK = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}


class IdentityProvider:
    """Keys by ``kid``, and whether the provider is well."""

    def __init__(self, *algorithms):
        self.url = "http://127.0.0.1:1"
        self.keys, self.algorithms = {}, {}
        self.is_well, self.num_reads = True, 0
        for algorithm in algorithms or ("ES256",):
            self.add(f"{algorithm} 1", algorithm)

    def add(self, kid, algorithm="ES256"):
        """Begin to sign with a new key."""
        self.keys[kid], self.algorithms[kid] = MAKE[algorithm](), algorithm
        self.kid = kid

    def entries(self):
        """The public keys."""
        return [{**json.loads(_AS_JWK[self.algorithms[kid]].to_jwk(key.public_key())), "kid": kid,
                 "use": "sig", "alg": self.algorithms[kid]} for kid, key in self.keys.items()]

    def claims(self, **changes):
        """Claims of a valid token; None takes one away."""
        now_s = time.time()
        found = {"iss": self.url, "aud": "penstock", "sub": "somebody", "tenant": "shop",
                 "iat": now_s - 1, "exp": now_s + 300, **changes}
        return {name: value for name, value in found.items() if value is not None}

    def token(self, kid=None, **changes):
        """A token that the provider signed."""
        kid = kid or self.kid
        return jwt.encode(self.claims(**changes), self.keys[kid], self.algorithms[kid],
                          headers={"kid": kid})

    @asynccontextmanager
    async def listening(self):
        """Serve the keys."""
        async def configuration(_):
            return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})

        async def keys(_):
            self.num_reads += 1
            if not self.is_well:
                return web.Response(status=500)
            return web.json_response({"keys": self.entries()})

        async with serving({"/.well-known/openid-configuration": configuration,
                            "/keys": keys}) as self.url:
            yield self


@asynccontextmanager
async def serving(handlers):
    """Answer GET by path, on a free port."""
    app = web.Application()
    for path, handler in handlers.items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
