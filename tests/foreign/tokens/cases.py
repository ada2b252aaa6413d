#!/usr/bin/env python3
"""Tokens by PyJWT and joserfc: good ones, and forged ones with the reason to refuse each.

Writes one JSON object: the issuers with the keys they are checked with, the time, and the cases. The keys are new each
time. Where a library refuses to make what an attacker would, the parts are put together by hand.
"""
import base64
import json
import secrets
import sys
import time
import warnings

import joserfc
import jwt
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc import jwe, jws
from joserfc import jwt as jose
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

warnings.simplefilter("ignore")
NOW = int(time.time())
SECRET = secrets.token_urlsafe(48)
COACHING = secrets.token_hex(32)
RSA_1 = rsa.generate_private_key(65537, 2048)
RSA_2 = rsa.generate_private_key(65537, 3072)
EC_1 = ec.generate_private_key(ec.SECP256R1())
EC_384 = ec.generate_private_key(ec.SECP384R1())
ED_1 = ed25519.Ed25519PrivateKey.generate()
EVIL_RSA = rsa.generate_private_key(65537, 2048)
EVIL_EC = ec.generate_private_key(ec.SECP256R1())
EVIL_ED = ed25519.Ed25519PrivateKey.generate()
# The orders of P-256 and of the subgroup of Ed25519.
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
L = 2**252 + 27742317777372353535851937790883648493


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def pem(key):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def private_pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def number(value):
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def jwk(key, **more):
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **more}
    if isinstance(public, ec.EllipticCurvePublicKey):
        x, y = public.public_numbers().x, public.public_numbers().y
        return {"kty": "EC", "crv": "P-256", "x": b64(x.to_bytes(32, "big")), "y": b64(y.to_bytes(32, "big")), **more}
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(raw), **more}


HS, RS, ES, ED, ANY = (f"https://{name}.example" for name in ("hs", "rs", "es", "ed", "any"))
ISSUERS = {
    "hs": {"iss": HS, "audiences": ["salon"], "algorithms": ["HS256"], "secret": SECRET, "kid": "hs-1"},
    "rs": {
        "iss": RS,
        "audiences": ["salon", "other"],
        "algorithms": ["RS256"],
        "jwks": {"keys": [jwk(RSA_1, kid="rs-1", alg="RS256", use="sig"), jwk(RSA_2, kid="rs-2")]},
    },
    "es": {"iss": ES, "audiences": ["salon"], "algorithms": ["ES256"], "pem": pem(EC_1)},
    "ed": {"iss": ED, "audiences": ["salon"], "algorithms": ["EdDSA"], "pem": pem(ED_1)},
    "any": {
        "iss": ANY,
        "audiences": ["salon"],
        "algorithms": ["RS256", "ES256", "EdDSA"],
        "jwks": {"keys": [jwk(RSA_1, kid="a"), jwk(EC_1, kid="b"), jwk(ED_1, kid="c")]},
    },
    "coaching": {"algorithms": ["HS256"], "secret": COACHING, "claims": "coaching"},
}
CASES = []


def good(name, token, user="zoe", **more):
    CASES.append({"name": name, "token": token, "user": user, **more})


def bad(name, token, why):
    CASES.append({"name": name, "token": token, "refused": why})


def claims(iss, /, **more):
    payload = {"iss": iss, "aud": "salon", "sub": "zoe", "iat": NOW, "exp": NOW + 600}
    payload.update(more)
    return {key: value for key, value in payload.items() if value is not ...}


def hs(payload, key=SECRET, **headers):
    return jwt.encode(payload, key, "HS256", {"kid": "hs-1", **headers})


def rs(payload, key=RSA_1, **headers):
    return jwt.encode(payload, key, "RS256", {"kid": "rs-1", **headers})


def es(payload, key=EC_1, **headers):
    return jwt.encode(payload, key, "ES256", headers)


def ed(payload, key=ED_1, **headers):
    return jwt.encode(payload, key, "EdDSA", headers)


def mac(key, text):
    made = hmac.HMAC(key, hashes.SHA256())
    made.update(text.encode())
    return made.finalize()


def raw(header, payload, key=SECRET.encode()):
    """Signed by HS256, whatever the parts are."""
    texts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = ".".join(b64(text) for text in texts)
    return f"{signed}.{b64(mac(key, signed))}"


def raw_hs(payload):
    return raw({"alg": "HS256", "kid": "hs-1"}, payload)


def resigned(token, change):
    """The same token with another signature."""
    signed, _, signature = token.rpartition(".")
    old = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    return f"{signed}.{b64(change(old))}"


def good_ones():
    good("HS256 by PyJWT", hs(claims(HS)))
    good("HS256 by joserfc", jose.encode({"alg": "HS256", "kid": "hs-1"}, claims(HS), OctKey.import_key(SECRET)))
    good("RS256 by PyJWT", rs(claims(RS)))
    good("RS256 by joserfc", jose.encode({"alg": "RS256", "kid": "rs-1"}, claims(RS), RSAKey.import_key(private_pem(RSA_1))))
    good("RS256 with the second key", rs(claims(RS), RSA_2, kid="rs-2"))
    good("RS256 without a kid", jwt.encode(claims(RS), RSA_2, "RS256"))
    good("RS256 for the other audience", rs(claims(RS, aud="other")))
    good("ES256 by PyJWT", es(claims(ES)))
    good("ES256 by joserfc", jose.encode({"alg": "ES256"}, claims(ES), ECKey.import_key(private_pem(EC_1))))
    good("ES256 with a kid for a key without", es(claims(ES), kid="2026"))
    good("EdDSA by PyJWT", ed(claims(ED)))
    okp = OKPKey.import_key(private_pem(ED_1))
    good("EdDSA by joserfc", jose.encode({"alg": "EdDSA"}, claims(ED), okp, algorithms=["EdDSA"]))
    good("Ed25519, the newer name", jose.encode({"alg": "Ed25519"}, claims(ED), okp, algorithms=["Ed25519"]))
    for name, token in (("RS256", rs(claims(ANY), kid="a")), ("ES256", es(claims(ANY), kid="b")), ("EdDSA", ed(claims(ANY), kid="c"))):
        good(f"one of three algorithms: {name}", token)
    good("an audience among others", hs(claims(HS, aud=["other", "salon"])))
    good("no typ", hs(claims(HS), typ=None))
    good("typ at+jwt", hs(claims(HS), typ="at+jwt"))
    good("exp with a fraction", hs(claims(HS, exp=NOW + 100.25)))
    good("expired within the leeway", hs(claims(HS, exp=NOW - 20)))
    good("nbf within the leeway", hs(claims(HS, nbf=NOW + 20)))
    good("a jku that is not followed", rs(claims(RS), jku="https://evil.example/keys", x5u="https://evil.example/x"))
    good("a user who is not ASCII", hs(claims(HS, sub="Zoë 🦊")), user="Zoë 🦊")
    good("white space", raw_hs(b"\n{ " + json.dumps(claims(HS), indent=3).encode()[1:] + b"\r\n\t"))
    good("claims of others", hs(claims(HS, azp="x", scope="a b", deep={"a": [1, {"b": None}]})))
    good(
        "grants",
        hs(claims(HS, room="tea", name="Zoë", role="admin", grants={"write": False, "media": ["audio"]}, jti="t1")),
        room="tea",
        display_name="Zoë",
        role="admin",
        may_write=False,
        media=["audio"],
    )
    coach = {"userId": "u1", "roomId": "r1", "sessionId": "s1", "name": "Ann", "permissions": ["video", "audio"]}
    coach = {**coach, "role": "coach", "exp": NOW + 7200}
    token = jwt.encode(coach, COACHING, "HS256")
    good("coaching", token, user="u1", room="r1", display_name="Ann", role="admin", media=["video", "audio"])


def algorithms():
    for alg in ("none", "None", "nOnE", "NONE", ""):
        unsigned = f"{b64(json.dumps({'alg': alg}).encode())}.{b64(json.dumps(claims(HS)).encode())}."
        bad(f"alg {alg!r}, no signature", unsigned, "algorithm")
        bad(f"alg {alg!r}, some signature", unsigned + b64(b"signature"), "algorithm")
    bad("alg none by PyJWT", jwt.encode(claims(HS), None, "none"), "algorithm")
    for name, iss, key, kid in (("RSA", RS, RSA_1, "rs-1"), ("EC", ES, EC_1, "es"), ("Ed25519", ED, ED_1, "ed"), ("RSA", ANY, RSA_1, "a")):
        public = pem(key)
        der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        for form, secret in (("PEM", public), ("PEM without end", public.strip()), ("DER", der), ("JWK", json.dumps(jwk(key)))):
            secret = secret if isinstance(secret, bytes) else secret.encode()
            bad(f"HS256 with the public {name} key of {iss} as its secret, {form}", raw({"alg": "HS256", "kid": kid}, claims(iss), secret), "algorithm")
    bad("RS256 for an issuer of HS256", rs(claims(HS)), "algorithm")
    bad("PS256 with the RSA key", jwt.encode(claims(RS), RSA_1, "PS256", {"kid": "rs-1"}), "algorithm")
    bad("RS512 with the RSA key", jwt.encode(claims(RS), RSA_1, "RS512", {"kid": "rs-1"}), "algorithm")
    bad("HS512 with the secret", jwt.encode(claims(HS), SECRET, "HS512", {"kid": "hs-1"}), "algorithm")
    bad("ES384", jwt.encode(claims(ES), EC_384, "ES384"), "algorithm")
    bad("ES256 said to be EdDSA", relabelled(es(claims(ANY)), "EdDSA"), "signature")
    bad("EdDSA said to be ES256", relabelled(ed(claims(ANY)), "ES256"), "signature")
    bad("no alg", raw({"kid": "hs-1"}, claims(HS)), "malformed")
    bad("alg is a list", raw({"alg": ["HS256"]}, claims(HS)), "malformed")
    bad("alg is null", raw({"alg": None}, claims(HS)), "malformed")
    encrypted = jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM"}, json.dumps(claims(HS)), OctKey.generate_key(256))
    bad("an encrypted token", encrypted, "malformed")
    bad("alg dir", raw({"alg": "dir"}, claims(HS)), "algorithm")
    bad("zip", raw({"alg": "HS256", "zip": "DEF"}, claims(HS)), "malformed")


def relabelled(token, alg):
    """The signature is over the new header's old form: nobody checks it like that."""
    _, payload, signature = token.split(".")
    return f"{b64(json.dumps({'alg': alg}).encode())}.{payload}.{signature}"


def keys():
    bad("an unknown kid", rs(claims(RS), kid="rs-3"), "unknown_key")
    bad("the kid of the other key", rs(claims(RS), kid="rs-2"), "signature")
    bad("an empty kid", rs(claims(RS), kid=""), "unknown_key")
    for kid in ("../../../../dev/null", "' OR '1'='1", "rs-1\0", "http://evil.example/key", "RS-1"):
        bad(f"kid {kid!r}", raw({"alg": "HS256", "kid": kid}, claims(HS), b"\0"), "unknown_key")
    for kid in (1, None, ["rs-1"], {"k": 1}, "k" * 300):
        bad(f"kid {str(kid)[:20]!r}", raw({"alg": "HS256", "kid": kid}, claims(HS)), "malformed")
    bad("jku of an attacker", rs(claims(RS), EVIL_RSA, jku="https://evil.example/keys"), "signature")
    bad("jku of an attacker and a kid of theirs", rs(claims(RS), EVIL_RSA, kid="evil", jku="https://evil.example/keys"), "unknown_key")
    bad("x5u of an attacker", rs(claims(RS), EVIL_RSA, x5u="https://evil.example/cert"), "signature")
    bad("x5c of an attacker", rs(claims(RS), EVIL_RSA, x5c=["MIIB"]), "signature")
    bad("an embedded RSA key", rs(claims(RS), EVIL_RSA, jwk=jwk(EVIL_RSA, kid="rs-1")), "signature")
    bad("an embedded RSA key without a kid", jwt.encode(claims(RS), EVIL_RSA, "RS256", {"jwk": jwk(EVIL_RSA)}), "signature")
    bad("an embedded P-256 key", es(claims(ES), EVIL_EC, jwk=jwk(EVIL_EC)), "signature")
    bad("an embedded Ed25519 key", ed(claims(ED), EVIL_ED, jwk=jwk(EVIL_ED)), "signature")
    for name, key in (("empty", b""), ("zero", b"\0" * 32), ("secret", b"secret"), ("null", b"null")):
        bad(f"HS256 with the weak key {name}", raw({"alg": "HS256", "kid": "hs-1"}, claims(HS), key), "signature")
    bad("another issuer's secret", hs(claims(HS), COACHING), "signature")
    bad("another issuer's key", rs(claims(ES), kid="rs-1"), "algorithm")


def signatures():
    token, other = hs(claims(HS)), hs(claims(HS, sub="eve"))
    bad("the signature of another token", f"{token.rpartition('.')[0]}.{other.rpartition('.')[2]}", "signature")
    head, _, tail = token.split(".")
    bad("another payload", f"{head}.{b64(json.dumps(claims(HS, sub='eve')).encode())}.{tail}", "signature")
    bad("a bit of the signature changed", resigned(token, lambda s: bytes([s[0] ^ 1]) + s[1:]), "signature")
    bad("half of the signature", resigned(token, lambda s: s[:16]), "signature")
    bad("a byte more than the signature", resigned(token, lambda s: s + b"\0"), "signature")
    bad("no signature", token.rpartition(".")[0] + ".", "malformed")
    good_es = es(claims(ES))
    bad("ES256 of zeros", resigned(good_es, lambda s: bytes(64)), "signature")
    bad("ES256, r and s are the order", resigned(good_es, lambda s: N.to_bytes(32, "big") * 2), "signature")
    bad("ES256, s is zero", resigned(good_es, lambda s: s[:32] + bytes(32)), "signature")
    bad("ES256, r is zero", resigned(good_es, lambda s: bytes(32) + s[32:]), "signature")
    bad("ES256 of nothing", resigned(good_es, lambda s: b"\0"), "signature")
    signed = good_es.rpartition(".")[0]
    der = EC_1.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
    assert decode_dss_signature(der)
    bad("ES256 in DER", f"{signed}.{b64(der)}", "signature")
    good_ed = ed(claims(ED))
    bad("EdDSA of zeros", resigned(good_ed, lambda s: bytes(64)), "signature")
    scaled = lambda s: s[:32] + (int.from_bytes(s[32:], "little") + L).to_bytes(32, "little")
    bad("EdDSA, s and the order", resigned(good_ed, scaled), "signature")
    good_rs = rs(claims(RS))
    bad("RS256 of zeros", resigned(good_rs, lambda s: bytes(256)), "signature")
    bad("RS256 of one", resigned(good_rs, lambda s: bytes(255) + b"\1"), "signature")
    bad("RS256 with a zero before it", resigned(good_rs, lambda s: b"\0" + s), "signature")
    sha1 = RSA_1.sign(good_rs.rpartition(".")[0].encode(), padding.PKCS1v15(), hashes.SHA1())
    bad("RS256 over SHA-1", resigned(good_rs, lambda s: sha1), "signature")


def times():
    bad("expired", hs(claims(HS, exp=NOW - 3600)), "expired")
    bad("expired behind the leeway", hs(claims(HS, exp=NOW - 30)), "expired")
    bad("expires in 1970", hs(claims(HS, exp=0)), "expired")
    bad("nbf later", hs(claims(HS, nbf=NOW + 300)), "not_yet")
    bad("nbf behind the leeway", hs(claims(HS, nbf=NOW + 31)), "not_yet")
    bad("iat later", hs(claims(HS, iat=NOW + 300)), "not_yet")
    bad("no exp", hs(claims(HS, exp=...)), "claim exp")
    bad("valid for ever", hs(claims(HS, exp=NOW + 10**9)), "too_long_lived")
    bad("valid for too long", hs(claims(HS, exp=NOW + 86401)), "too_long_lived")
    bad("exp in milliseconds", raw_hs(claims(HS, exp=(NOW + 600) * 1000)), "claim exp")
    for claim in ("exp", "nbf", "iat"):
        for value in (str(NOW + 600), -1, 1e300, 2**64 - 1, -(2**63), True, None, [NOW + 600], {}, "", "NaN"):
            bad(f"{claim} is {value!r}", raw_hs(claims(HS, **{claim: value})), f"claim {claim}")
        for value in (float("nan"), float("inf"), float("-inf"), 10**400):
            bad(f"{claim} is {str(value)[:9]}", raw_hs(claims(HS, **{claim: value})), "malformed")


def audiences_and_issuers():
    bad("another audience", hs(claims(HS, aud="elsewhere")), "audience")
    bad("other audiences", hs(claims(HS, aud=["elsewhere", "salon2"])), "audience")
    bad("an audience of another issuer", hs(claims(HS, aud="other")), "audience")
    bad("no audience", hs(claims(HS, aud=...)), "audience")
    bad("no audience in a list", hs(claims(HS, aud=[])), "audience")
    for value in (1, None, {"salon": 1}, ["salon", 1], True):
        bad(f"aud is {value!r}", raw_hs(claims(HS, aud=value)), "claim aud")
    bad("aud for who wants none", jwt.encode({"userId": "u", "aud": "salon", "exp": NOW + 60}, COACHING, "HS256"), "audience")
    bad("another issuer", hs(claims("https://evil.example")), "issuer")
    bad("an issuer with a slash", hs(claims(HS + "/")), "issuer")
    bad("an issuer in capitals", hs(claims(HS.upper())), "issuer")
    bad("an empty issuer", hs(claims("")), "issuer")
    for value in (1, None, [HS], {}):
        bad(f"iss is {value!r}", raw_hs(claims(value)), "claim iss")
    bad("no issuer, with an audience", hs(claims(...)), "audience")
    bad("no issuer and no audience", hs(claims(..., aud=...)), "signature")


def forms():
    token = hs(claims(HS))
    head, body, tail = token.split(".")
    bad("nothing", "", "malformed")
    for text in (".", "..", "...", "." * 8000, "a.b.c", "a", "null", "{}", "Bearer", "\0.\0.\0", "é.é.é", "🦊" * 100):
        bad(f"the text {text[:8]!r} of {len(text)}", text, "malformed")
    bad("huge", hs(claims(HS, padding="x" * 8192)), "too_long")
    bad("very huge", "a" * 20_000, "too_long")
    for at in (1, len(head), len(head) + 1, len(head) + 20, len(head) + len(body) + 1):
        bad(f"cut at {at}", token[:at], "malformed")
    # What is left is base64 by chance.
    bad("a character less", token[:-1], "malformed|signature")
    for name, text in (
        ("a part more", token + ".x"),
        ("two parts more", token + ".x.y"),
        ("a point before", "." + token),
        ("a point behind", token + "."),
        ("a space before", " " + token),
        ("a line's end behind", token + "\n"),
        ("spaces at points", token.replace(".", " . ")),
        ("a part less", f"{head}.{body}"),
        ("padding", f"{head}.{body}.{tail}="),
        ("a padded header", f"{head}=.{body}.{tail}"),
        ("another last bit", token[:-1] + chr(ord(token[-1]) + 1)),
        ("a quoted token", f'"{token}"'),
        ("JSON form", json.dumps({"payload": body, "protected": head, "signature": tail})),
    ):
        bad(name, text, "malformed")
    standard = base64.b64encode(b'{"alg":"HS256","kid":"??>"}').decode().rstrip("=")
    assert "/" in standard or "+" in standard
    bad("base64 of the other alphabet", f"{standard}.{body}.{tail}", "malformed")
    bad("a header that is no JSON", raw(b"HS256", claims(HS)), "malformed")
    bad("a header that is a list", raw(b'["HS256"]', claims(HS)), "malformed")
    bad("a header that is no UTF-8", raw(b'{"alg":"HS256","x":"\xff"}', claims(HS)), "malformed")
    bad("alg twice", raw(b'{"alg":"none","alg":"HS256","kid":"hs-1"}', claims(HS)), "malformed")
    bad("kid twice", raw(b'{"alg":"HS256","kid":"x","kid":"hs-1"}', claims(HS)), "malformed")
    text = json.dumps(claims(HS))
    for extra in ('"sub":"eve"', '"exp":1', '"\\u0073ub":"eve"', '"iss":"x"', '"deep":{"a":1,"a":2}'):
        bad(f"twice: {extra}", raw_hs(f"{text[:-1]},{extra}}}".encode()), "malformed")
    for payload in (b"[]", b'"zoe"', b"1", b"null", b"", b"{", b"\xef\xbb\xbf{}", token.encode(), b"[" * 3000, b'{"a":' * 700 + b"1" + b"}" * 700):
        bad(f"a payload of {payload[:6]!r}", raw_hs(payload), "malformed")
    bad("a token in a token", raw({"alg": "HS256", "cty": "JWT", "kid": "hs-1"}, token.encode()), "malformed")
    for typ in ("dpop+jwt", "logout+jwt", "", 1, None, ["JWT"]):
        bad(f"typ {typ!r}", raw({"alg": "HS256", "typ": typ, "kid": "hs-1"}, claims(HS)), "type")


def critical():
    for header in ({"crit": ["exp"], "exp": NOW}, {"crit": []}, {"crit": ["b64"], "b64": True}, {"crit": "x"}, {"crit": None}):
        bad(f"crit {header['crit']!r}", raw({"alg": "HS256", "kid": "hs-1", **header}, claims(HS)), "critical")
    header = {"alg": "HS256", "b64": False, "crit": ["b64"]}
    bad("not encoded, by joserfc", jws.serialize_compact(header, b"payload", OctKey.import_key(SECRET)), "critical")
    bad("b64 alone", raw({"alg": "HS256", "b64": False}, claims(HS)), "critical")


def meanings():
    for value in ("", 1, None, ["zoe"], {}, "a\nb", "a\0", "a\u202eb", "x" * 129):
        bad(f"sub is {str(value)[:9]!r}", raw_hs(claims(HS, sub=value)), "claim sub")
    bad("no sub", hs(claims(HS, sub=...)), "claim sub")
    for claim, values in (
        ("room", ("", "acme/tea", "../tea", "a b", 1, None, ["tea"], "r" * 65)),
        ("role", ("owner", "Admin", "", 1, None, ["admin"])),
        ("grants", ("all", 1, None, {"write": "no"}, {"write": 0}, {"fly": False}, [1])),
        ("media", ("audio", 1, None, [1])),
        ("name", (1, None, [])),
    ):
        for value in values:
            bad(f"{claim} is {str(value)[:20]!r}", raw_hs(claims(HS, **{claim: value})), f"claim {claim}")
    bad("jti is a number", raw_hs(claims(HS, jti=1)), "claim jti")
    unknown = {"userId": "u1", "role": "supervisor", "exp": NOW + 60}
    bad("a role that coaching has not", jwt.encode(unknown, COACHING, "HS256"), "claim role")


for make in (good_ones, algorithms, keys, signatures, times, audiences_and_issuers, forms, critical, meanings):
    make()
by = f"PyJWT {jwt.__version__}, joserfc {joserfc.__version__}"
json.dump({"by": by, "now": NOW, "issuers": ISSUERS, "cases": CASES}, sys.stdout, indent=1)
print()
print(f"{len(CASES)} tokens by {by}", file=sys.stderr)
