// Tokens by jose: good ones, and forged ones with the reason to refuse each. See cases.py, which makes more.
import { createHmac, createPrivateKey, randomBytes, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const packages = `${process.env.SALON_NODE_PACKAGES}/`;
const require = createRequire(packages);
const jose = await import(pathToFileURL(require.resolve('jose')));
const version = JSON.parse(readFileSync(`${packages}node_modules/jose/package.json`)).version;

const now = Math.floor(Date.now() / 1000);
const secret = randomBytes(32);
const pair = (alg, options) => jose.generateKeyPair(alg, { extractable: true, ...options });
const rs1 = await pair('RS256');
const rs2 = await pair('RS256', { modulusLength: 4096 });
const es1 = await pair('ES256');
const ed1 = await pair('EdDSA');
const evil = { RS256: await pair('RS256'), ES256: await pair('ES256'), EdDSA: await pair('EdDSA') };
const jwk = async (keys, more) => ({ ...(await jose.exportJWK(keys.publicKey)), ...more });

const oct = { kty: 'oct', k: jose.base64url.encode(secret), kid: 'hs-1', alg: 'HS256' };
const issuers = {
  hs: { iss: 'urn:hs', audiences: ['salon'], algorithms: ['HS256'], jwks: { keys: [oct] } },
  rs: { iss: 'urn:rs', audiences: ['salon'], algorithms: ['RS256'], pem: await jose.exportSPKI(rs1.publicKey) },
  es: { iss: 'urn:es', audiences: ['salon'], algorithms: ['ES256'], pem: await jose.exportSPKI(es1.publicKey) },
  ed: { iss: 'urn:ed', audiences: ['salon'], algorithms: ['EdDSA'], pem: await jose.exportSPKI(ed1.publicKey) },
  set: {
    iss: 'urn:set',
    audiences: ['salon'],
    algorithms: ['RS256', 'ES256', 'EdDSA'],
    jwks: {
      keys: [
        await jwk(rs1, { kid: 'a' }),
        await jwk(rs2, { kid: 'b', use: 'sig' }),
        await jwk(es1, { kid: 'c', alg: 'ES256' }),
        await jwk(ed1, { kid: 'd', alg: 'EdDSA' }),
        await jwk(evil.RS256, { kid: 'encrypts', use: 'enc' }),
        await jwk(evil.ES256, { kid: 'mislabelled', alg: 'RS256' }),
      ],
    },
  },
};

const cases = [];
const good = (name, token) => cases.push({ name, token, user: 'zoe' });
const bad = (name, token, refused) => cases.push({ name, token, refused });
const claims = (iss, more) => ({ iss, aud: 'salon', sub: 'zoe', iat: now, exp: now + 600, ...more });
const make = (payload, header, key) => new jose.SignJWT(payload).setProtectedHeader(header).sign(key);
const hs = (payload, header, key = secret) => make(payload, { alg: 'HS256', kid: 'hs-1', ...header }, key);
const b64 = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const raw = (header, payload, key = secret) => {
  const signed = `${b64(header)}.${b64(payload)}`;
  return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`;
};

good('HS256', await hs(claims('urn:hs')));
good('HS256 without a kid', await make(claims('urn:hs'), { alg: 'HS256' }, secret));
good('RS256', await make(claims('urn:rs'), { alg: 'RS256', typ: 'JWT' }, rs1.privateKey));
good('ES256', await make(claims('urn:es'), { alg: 'ES256', typ: 'at+jwt' }, es1.privateKey));
good('EdDSA', await make(claims('urn:ed'), { alg: 'EdDSA' }, ed1.privateKey));
good('Ed25519', await make(claims('urn:ed'), { alg: 'Ed25519' }, ed1.privateKey));
for (const [alg, kid, keys] of [['RS256', 'a', rs1], ['RS256', 'b', rs2], ['ES256', 'c', es1], ['EdDSA', 'd', ed1]]) {
  good(`${alg} of a set by ${kid}`, await make(claims('urn:set'), { alg, kid }, keys.privateKey));
  good(`${alg} of a set without a kid, by ${kid}`, await make(claims('urn:set'), { alg }, keys.privateKey));
}

bad('unsecured', new jose.UnsecuredJWT(claims('urn:hs')).encode(), 'algorithm');
for (const iss of ['urn:rs', 'urn:es', 'urn:ed']) {
  const { pem } = issuers[iss.slice(4)];
  bad(`HS256 with the public key of ${iss}`, raw({ alg: 'HS256' }, claims(iss), pem), 'algorithm');
}
bad('HS256 with a key of the set', raw({ alg: 'HS256', kid: 'a' }, claims('urn:set'), JSON.stringify(await jwk(rs1))), 'algorithm');
for (const alg of ['PS256', 'RS384', 'RS512']) {
  const key = await jose.importPKCS8(await jose.exportPKCS8(rs1.privateKey), alg);
  bad(`${alg} with the RSA key`, await make(claims('urn:rs'), { alg }, key), 'algorithm');
}
for (const alg of ['HS384', 'HS512']) bad(alg, await make(claims('urn:hs'), { alg }, randomBytes(64)), 'algorithm');
const encrypted = await new jose.EncryptJWT(claims('urn:hs'))
  .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
  .encrypt(secret);
bad('encrypted', encrypted, 'malformed');

for (const [alg, keys] of Object.entries(evil)) {
  const kid = { RS256: 'a', ES256: 'c', EdDSA: 'd' }[alg];
  const embedded = await jwk(keys, { kid });
  bad(`${alg} with its key embedded`, await make(claims('urn:set'), { alg, kid, jwk: embedded }, keys.privateKey), 'signature');
  const jku = 'https://evil.example/keys';
  bad(`${alg} with a jku`, await make(claims('urn:set'), { alg, kid: 'evil', jku }, keys.privateKey), 'unknown_key');
  bad(`${alg} with an x5u`, await make(claims('urn:set'), { alg, kid, x5u: jku }, keys.privateKey), 'signature');
}
bad('a key that encrypts', await make(claims('urn:set'), { alg: 'RS256', kid: 'encrypts' }, evil.RS256.privateKey), 'unknown_key');
bad('a key with the wrong label', await make(claims('urn:set'), { alg: 'ES256', kid: 'mislabelled' }, evil.ES256.privateKey), 'unknown_key');
bad('a kid of another algorithm', await make(claims('urn:set'), { alg: 'ES256', kid: 'a' }, es1.privateKey), 'unknown_key');

bad('expired', await hs(claims('urn:hs', { exp: now - 60 })), 'expired');
bad('not yet', await hs(claims('urn:hs', { nbf: now + 60 })), 'not_yet');
bad('for ever', await hs(claims('urn:hs', { exp: now + 1e9 })), 'too_long_lived');
bad('milliseconds', raw({ alg: 'HS256' }, claims('urn:hs', { exp: Date.now() + 6e5 })), 'claim exp');
bad('exp is a text', raw({ alg: 'HS256' }, claims('urn:hs', { exp: String(now + 60) })), 'claim exp');
bad('exp is NaN, which JSON makes null of', raw({ alg: 'HS256' }, claims('urn:hs', { exp: NaN })), 'claim exp');
bad('another audience', await hs(claims('urn:hs', { aud: 'other' })), 'audience');
bad('another issuer', await hs(claims('urn:HS')), 'issuer');
bad('an empty sub', await hs(claims('urn:hs', { sub: '' })), 'claim sub');
bad('__proto__', raw({ alg: 'HS256' }, `{"__proto__":${JSON.stringify(claims('urn:hs'))}}`), 'issuer');

const bytes = Buffer.from(JSON.stringify(claims('urn:hs')));
const unencoded = await new jose.FlattenedSign(bytes)
  .setProtectedHeader({ alg: 'HS256', b64: false, crit: ['b64'] })
  .sign(secret);
const half = `${unencoded.protected}.${bytes.toString('base64url')}.${unencoded.signature}`;
bad('b64 false and its payload encoded', half, 'critical');
bad('b64 false as it is', `${unencoded.protected}.${bytes}.${unencoded.signature}`, 'critical');
const extended = new jose.CompactSign(bytes).setProtectedHeader({ alg: 'HS256', crit: ['urn:x'], 'urn:x': 1 });
bad('an extension of somebody', await extended.sign(secret, { crit: { 'urn:x': true } }), 'critical');

const token = await make(claims('urn:es'), { alg: 'ES256' }, es1.privateKey);
const signed = token.slice(0, token.lastIndexOf('.'));
bad('zeros', `${signed}.${Buffer.alloc(64).toString('base64url')}`, 'signature');
const der = sign('sha256', Buffer.from(signed), createPrivateKey(await jose.exportPKCS8(es1.privateKey)));
bad('DER', `${signed}.${der.toString('base64url')}`, 'signature');
bad('cut', token.slice(0, -2), 'signature');
bad('two tokens', `${token}.${token}`, 'malformed');
bad('huge', await hs(claims('urn:hs', { x: 'x'.repeat(9000) })), 'too_long');

const by = `jose ${version}`;
process.stdout.write(`${JSON.stringify({ by, now, issuers, cases }, null, 1)}\n`);
process.stderr.write(`${cases.length} tokens by ${by}\n`);
