import { existsSync } from 'node:fs';
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { authorizationRequest, createBrowser, signIn } from './support/browser.ts';
import { basic, createHarness, exchange, type Harness, kek, postForm } from './support/harness.ts';
import { createProcesses, type Processes, type Started } from './support/processes.ts';

/**
 * One of two instances on one database has a clock that is five minutes off. The other is the one in this process, whose
 * clock is the database's.
 */
const libraries = ['x86_64', 'aarch64'].map((cpu) => `/usr/lib/${cpu}-linux-gnu/faketime/libfaketime.so.1`);
const library = libraries.find((path) => existsSync(path));
if (!library && process.env.REQUIRE_FAKETIME) throw new Error('libfaketime is not installed');
if (!library) process.stderr.write('libfaketime is not installed: clocks that are off are NOT tested\n');

const password = 'correct horse battery';
const seconds = () => Date.now() / 1000;
/** What the requests of a test take, on a machine that is busy, and no part of five minutes. */
const moment = 30;

describe.skipIf(!library).each([
  ['ahead', '+300'],
  ['behind', '-300'],
])('an instance whose clock is five minutes %s', (direction, shift) => {
  let harness: Harness;
  let processes: Processes;
  let off: Started;
  beforeAll(async () => {
    harness = await createHarness();
    processes = await createProcesses();
    off = await processes.start({
      DATABASE_URL: harness.databaseUrl,
      KEY_ENCRYPTION_KEY: kek.toString('base64url'),
      ISSUER: harness.issuer,
      LD_PRELOAD: String(library),
      FAKETIME: shift,
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    });
  });
  afterAll(async () => {
    await processes?.close();
    await harness?.close();
  });

  const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
  const status = async (answer: Promise<Response>) => {
    const { status, body } = await answer;
    await body?.cancel();
    return status;
  };
  const at = (s: number) => new Date(Date.now() + s * 1000);

  it('is off, and says so', async () => {
    const { headers } = await fetch(`${off.url}/health/live`);
    const shown = Date.parse(String(headers.get('date'))) / 1000;
    expect(Math.abs(shown - seconds() - Number(shift))).toBeLessThan(moment);
    await expect.poll(off.output).toContain("this machine's clock is not the database's");
  });

  it('refuses a platform token that has just expired, and a revoked one', async () => {
    const expired = await harness.build.platformToken({ createdAt: at(-3600), expiresAt: at(-1) });
    const revoked = await harness.build.platformToken({ revokedAt: at(0) });
    for (const { token } of [expired, revoked]) expect(await status(exchange(off.url, token))).toBe(400);
  });

  it('gives an access token no longer than its platform token has, by the time of all', async () => {
    const { token } = await harness.build.platformToken({ createdAt: at(-3600), expiresAt: at(120) });
    const ends = seconds() + 120;
    const answer = await exchange(off.url, token);
    expect(answer.status).toBe(200);
    const body = (await answer.json()) as { access_token: string; expires_in: number };
    expect(body.expires_in).toBeLessThanOrEqual(120);
    expect(decodeJwt(body.access_token).exp).toBeLessThanOrEqual(Math.ceil(ends) + 1);
  });

  it('issues access tokens of now, which the other instance takes', async () => {
    const { token } = await harness.build.platformToken();
    const { access_token: jwt } = (await (await exchange(off.url, token)).json()) as { access_token: string };
    const { iat = 0, exp = 0 } = decodeJwt(jwt);
    expect(Math.abs(iat - seconds())).toBeLessThan(moment);
    expect(exp - iat).toBe(14_400);
    const { id, secret } = await harness.build.client(['introspect']);
    for (const url of [harness.url, off.url]) {
      const answer = await postForm(url, { token: jwt }, basic(id, secret), '/oauth/introspect');
      expect(await answer.json()).toMatchObject({ active: true, exp });
    }
  });

  it("issues machine administrators' access tokens of now, which both take", async () => {
    const { id, secret } = await harness.build.client(['admin']);
    const form = { grant_type: 'client_credentials', scope: 'admin' };
    const answer = await postForm(off.url, form, basic(id, secret));
    const { access_token: jwt } = (await answer.json()) as { access_token: string };
    const { iat = 0, exp = 0 } = decodeJwt(jwt);
    expect(Math.abs(iat - seconds())).toBeLessThan(moment);
    expect(exp - iat).toBe(3_600);
    for (const url of [harness.url, off.url]) {
      expect(await status(fetch(`${url}/admin/organizations`, bearer(jwt)))).toBe(200);
    }
  });

  it('takes an access token exactly as long as the other instance does', async () => {
    const claims = await harness.build.machineClaims();
    const now = Math.floor(seconds());
    const ended = await harness.build.jwt({ ...claims, iat: now - 600, exp: now - 1 });
    const good = await harness.build.jwt({ ...claims, iat: now - 600, exp: now + 120 });
    const early = await harness.build.jwt({ ...claims, nbf: now + 120 });
    for (const url of [harness.url, off.url]) {
      expect(await status(fetch(`${url}/admin/organizations`, bearer(ended)))).toBe(401);
      expect(await status(fetch(`${url}/admin/organizations`, bearer(early)))).toBe(401);
      expect(await status(fetch(`${url}/admin/organizations`, bearer(good)))).toBe(200);
    }
  });

  it('signs status lists of now', async () => {
    await harness.build.platformToken();
    const answer = await fetch(`${off.url}/oauth/status-lists/0`);
    const { iat = 0, exp = 0 } = decodeJwt(await answer.text());
    expect(Math.abs(iat - seconds())).toBeLessThan(moment);
    expect(exp - iat).toBe(3_600);
  });

  it('writes revocations and events at the time of all', async () => {
    const { token, id } = await harness.build.platformToken();
    expect(await status(postForm(off.url, { token }, {}, '/oauth/revoke'))).toBe(200);
    expect(await status(exchange(harness.url, token))).toBe(400);
    const [row] = await harness.database.knex('platform_tokens').where({ id }).select('revoked_at');
    const [event] = await harness.database.knex('audit_events').where({ token_id: id }).select('at');
    for (const time of [row.revoked_at, event.at]) {
      expect(Math.abs(time.getTime() / 1000 - seconds())).toBeLessThan(moment);
    }
  });

  it('redeems no code that has ended, and none twice', async () => {
    const organization = await harness.build.organization();
    const person = { ...(await harness.build.user({ organizationId: organization.id, password })), password };
    const redeem = async (url: string, { code, verifier }: { code: string; verifier: string }) =>
      status(
        postForm(url, {
          grant_type: 'authorization_code',
          client_id: 'dashboard',
          redirect_uri: `${harness.issuer}/dashboard/callback`,
          code,
          code_verifier: verifier,
        }),
      );
    const ended = await signIn(harness, createBrowser(harness), person);
    await harness.database
      .knex('oidc_artifacts')
      .where({ kind: 'AuthorizationCode' })
      .update({ expires_at: at(-1) });
    expect(await redeem(off.url, ended)).toBe(400);

    // Of the library's own reckoning: a code of another instance is too old for the clock that is ahead.
    const fresh = await signIn(harness, createBrowser(harness), person);
    expect(await redeem(off.url, fresh)).toBe(direction === 'ahead' ? 400 : 200);
    const used = await signIn(harness, createBrowser(harness), person);
    expect(await redeem(harness.url, used)).toBe(200);
    expect(await redeem(off.url, used)).toBe(400);
  });

  it('ends a session that began there when the password is changed elsewhere', async () => {
    const organization = await harness.build.organization();
    const user = await harness.build.user({ organizationId: organization.id, password });
    const there = { ...harness, url: off.url };
    const browser = createBrowser(there);
    await signIn(there, browser, { email: user.email, password });
    const again = async () => (await browser.get(authorizationRequest(harness).url)).location?.pathname;
    expect(await again()).toBe('/dashboard/callback');
    // The library counts in whole seconds.
    await expect.poll(() => Math.floor(seconds())).toBeGreaterThan(Math.floor(seconds()));
    const change = await fetch(`${harness.url}/admin/users/${user.id}`, {
      method: 'PATCH',
      headers: {
        ...bearer(await harness.build.machineJwt()).headers,
        'content-type': 'application/json',
      },
      body: JSON.stringify({ password: 'another correct horse' }),
    });
    expect(change.status).toBe(200);
    expect(await again()).toContain('/oauth/sign-in/');
  });

  it('publishes a key as long before it signs as any other instance', async () => {
    const jwt = await harness.build.machineJwt();
    const answer = await fetch(`${off.url}/admin/signing-keys/rotate`, { method: 'POST', ...bearer(jwt) });
    expect(answer.status).toBe(201);
    const key = (await answer.json()) as { kid: string; published_at: string; activates_at: string };
    expect(Math.abs(Date.parse(key.published_at) / 1000 - seconds())).toBeLessThan(moment);
    expect(Date.parse(key.activates_at) - Date.parse(key.published_at)).toBe(690_000);
    // Neither signs with it now, and both have it in the JWKS.
    for (const url of [harness.url, off.url]) {
      const kids = async () => {
        const { keys } = (await (await fetch(`${url}/oauth/jwks`)).json()) as { keys: { kid: string }[] };
        return keys.map(({ kid }) => kid);
      };
      await expect.poll(kids).toContain(key.kid);
      expect((await kids())[0]).not.toBe(key.kid);
    }
    // Between now and then by one clock, past it by the other: both sign with the same key all the same.
    await harness.database
      .knex('signing_keys')
      .where({ kid: key.kid })
      .update({ activates_at: at(150) });
    await harness.database.knex.raw("SELECT pg_notify('signing_keys', '')");
    const { token } = await harness.build.platformToken();
    const kidOf = async (url: string) => {
      const { access_token } = (await (await exchange(url, token)).json()) as { access_token: string };
      return JSON.parse(Buffer.from(String(access_token.split('.')[0]), 'base64url').toString()).kid;
    };
    const moved = async () => {
      const answer = await fetch(`${off.url}/admin/signing-keys`, bearer(jwt));
      const { data } = (await answer.json()) as { data: { kid: string; activates_at: string }[] };
      return Date.parse(String(data.find(({ kid }) => kid === key.kid)?.activates_at)) / 1000 - seconds();
    };
    expect(await moved()).toBeLessThan(151);
    // For as long as it may take the instance to read the rows again, as it was told.
    for (const until = Date.now() + 500; Date.now() < until; ) {
      expect(await kidOf(off.url)).not.toBe(key.kid);
      expect(await kidOf(off.url)).toBe(await kidOf(harness.url));
    }
  });
});
