import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { policy } from '../../config/policy.ts';
import { createPlatformToken } from '../../server/domain/platform-token.ts';
import { createHarness, exchange, type Harness, rawPost } from '../support/harness.ts';

const path = '/leaks/github';
const pair = (namedCurve = 'prime256v1') => generateKeyPairSync('ec', { namedCurve });
const current = pair();
const previous = pair();
const stranger = pair();
const listed = (identifier: string, { publicKey }: { publicKey: ReturnType<typeof pair>['publicKey'] }) => ({
  key_identifier: identifier,
  key: publicKey.export({ type: 'spki', format: 'pem' }),
  is_current: identifier === 'current',
});

let harness: Harness;
let github: Server;
let fetches = 0;
beforeAll(async () => {
  github = createServer((_request, response) => {
    fetches += 1;
    response.setHeader('content-type', 'application/json');
    response.end(
      JSON.stringify({
        public_keys: [
          listed('current', current),
          listed('previous', previous),
          listed('other-curve', pair('secp384r1')),
          { key_identifier: 'no-key', key: 'nonsense', is_current: false },
        ],
      }),
    );
  }).listen(0, '127.0.0.1');
  await once(github, 'listening');
  const url = `http://127.0.0.1:${(github.address() as AddressInfo).port}/keys`;
  harness = await createHarness({ env: { GITHUB_SECRET_SCANNING_KEYS_URL: url } });
});
afterAll(async () => {
  github.close();
  const logs = harness.logs();
  await harness.close();
  expect(logs).toContain('"route":"/leaks/github"');
  expect(logs).not.toMatch(/"status":500|unexpected error|ptk_/);
});

const signatureOf = (body: Buffer | string, { privateKey } = current) =>
  sign('sha256', Buffer.from(body), privateKey).toString('base64');

function send(body: Buffer | string, headers: Record<string, string | string[]> = {}, url = harness.url) {
  return rawPost(url + path, body, {
    'content-type': 'application/json',
    'Github-Public-Key-Identifier': 'current',
    'Github-Public-Key-Signature': signatureOf(body),
    ...headers,
  });
}

const match = (token: string, more: Record<string, unknown> = {}) => ({
  token,
  type: 'platform_token',
  url: `https://github.com/octocat/hello/blob/${randomBytes(8).toString('hex')}/a.txt`,
  source: 'content',
  ...more,
});
const report = (...matches: unknown[]) => JSON.stringify(matches);

async function refused(answer: ReturnType<typeof send>, status = 400) {
  const { headers, body, ...rest } = await answer;
  expect([rest.status, body.status]).toEqual([status, status]);
  expect(headers['content-type']).toMatch(/^application\/problem\+json/);
  expect(headers['cache-control']).toBe('no-store');
}

const works = async (token: string) => {
  const response = await exchange(harness.url, token);
  await response.body?.cancel();
  return response.status === 200;
};
const events = (id: string) =>
  harness.database.knex('audit_events').where({ token_id: id, action: 'token.revoked' });

describe('a report is refused, and revokes nothing,', () => {
  it('without a signature by a key of GitHub over these very bytes', async () => {
    const { token } = await harness.build.platformToken();
    const body = report(match(token));
    const good = signatureOf(body);
    const name = 'Github-Public-Key-Signature';
    const id = 'Github-Public-Key-Identifier';
    const cases: [string, Record<string, string | string[]>][] = [
      ['no signature', { [name]: [] }],
      ['no identifier', { [id]: [] }],
      ['an empty signature', { [name]: '' }],
      ['an empty identifier', { [id]: '' }],
      ['two signatures', { [name]: [good, good] }],
      ['two identifiers', { [id]: ['current', 'current'] }],
      ['no base64', { [name]: '!!!!' }],
      ['no DER', { [name]: randomBytes(64).toString('base64') }],
      ['a cut signature', { [name]: good.slice(0, 40) }],
      ['a long signature', { [name]: 'A'.repeat(5_000) }],
      ['another key’s', { [name]: signatureOf(body, stranger) }],
      ['the key of another identifier', { [id]: 'previous' }],
      ['an unknown identifier', { [id]: 'unknown' }],
      ['an odd identifier', { [id]: '../keys' }],
      ['a name of Object', { [id]: '__proto__' }],
      ['a key on another curve', { [id]: 'other-curve' }],
      ['a key that is none', { [id]: 'no-key' }],
      [
        'raw r and s',
        {
          [name]: sign('sha256', Buffer.from(body), {
            key: current.privateKey,
            dsaEncoding: 'ieee-p1363',
          }).toString('base64'),
        },
      ],
      ['another hash', { [name]: sign('sha512', Buffer.from(body), current.privateKey).toString('base64') }],
      ['a signature of other bytes', { [name]: signatureOf(`${body} `) }],
      ['a signature of nothing', { [name]: signatureOf('') }],
    ];
    for (const [what, headers] of cases) {
      const { status } = await send(body, headers);
      expect([what, status]).toEqual([what, 400]);
    }
    await refused(send(body, { [name]: signatureOf(body, stranger) }));
    expect(await works(token)).toBe(true);
    // None of them counts as the report having been here.
    expect((await send(body)).status).toBe(200);
  });

  it.each([
    ['no JSON', 'hello'],
    ['nothing', ''],
    ['no UTF-8', Buffer.from([0x5b, 0xff, 0x5d])],
    ['no array', '{"token":"x","type":"y"}'],
    ['null', 'null'],
    ['an array of strings', '["ptk_x"]'],
    ['a match without a token', '[{"type":"x"}]'],
    ['a token that is no string', '[{"token":1,"type":"x"}]'],
    ['a long type', report(match('x', { type: 'x'.repeat(300) }))],
  ])('with a good signature, when it is %s', async (_what, body) => {
    await refused(send(body));
  });

  it('of another media type, too large, or with too many tokens', async () => {
    const { token } = await harness.build.platformToken();
    for (const type of ['text/plain', 'application/x-www-form-urlencoded'])
      await refused(send(report(match(token)), { 'content-type': type }));
    await refused(send(report(match(token), match('x'.repeat(1024 * 1024)))), 413);
    const many = Array.from({ length: 1_001 }, () => ({ token: 'x', type: 'y' }));
    await refused(send(report(match(token), ...many)), 413);
    expect(await works(token)).toBe(true);
  });

  it.each(['GET', 'PUT', 'DELETE'])('by %s', async (method) => {
    const response = await fetch(harness.url + path, { method });
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe('POST');
    await response.body?.cancel();
  });

  it('when it has been processed before, on any instance, and at the same time too', async () => {
    const { token, id } = await harness.build.platformToken();
    const body = report(match(token));
    const other = await harness.another();
    try {
      const urls = Array.from({ length: 10 }, (_, index) => (index % 2 ? other.url : harness.url));
      const answers = await Promise.all(urls.map((url) => send(body, {}, url)));
      expect(answers.map(({ status }) => status).sort()).toEqual([200, ...Array(9).fill(409)]);
      await refused(send(body, {}, other.url), 409);
    } finally {
      await other.close();
    }
    expect(await events(id)).toHaveLength(1);
  });
});

describe('a report', () => {
  it('revokes what is a platform token, and says of each what it was, as it was sent', async () => {
    const first = await harness.build.platformToken();
    const second = await harness.build.platformToken();
    const revoked = await harness.build.platformToken({ revokedAt: new Date() });
    const unknown = createPlatformToken('ptk').token;
    const mistyped = `${first.token.slice(0, -1)}${first.token.endsWith('0') ? '1' : '0'}`;
    const tokens = [first.token, unknown, revoked.token, mistyped, second.token, '', 'ü', first.token];
    const answer = await send(report(...tokens.map((token) => match(token))));
    expect(answer.status).toBe(200);
    expect(answer.headers['content-type']).toMatch(/^application\/json/);
    expect(answer.headers['cache-control']).toBe('no-store');
    const good = new Set([first.token, second.token, revoked.token]);
    expect(answer.body).toEqual(
      tokens.map((token) => ({
        token_raw: token,
        token_type: 'platform_token',
        label: good.has(token) ? 'true_positive' : 'false_positive',
      })),
    );
    expect([await works(first.token), await works(second.token)]).toEqual([false, false]);
    expect(await events(first.id)).toHaveLength(1);
    expect(await events(revoked.id)).toHaveLength(0);
    const row = await harness.database.knex('platform_tokens').where({ id: second.id }).first();
    expect(row.revoked_by).toBe('github-secret-scanning');
  });

  it('leaves the source and a fitting address in the audit trail, and no token', async () => {
    const long = `https://github.com/${'a'.repeat(600)}`;
    for (const [more, reason] of [
      [{ url: 'https://github.com/a/b?c=d#L1' }, 'content https://github.com/a/b?c=d#L1'],
      [{ url: 'http://example.com/', source: 'npm' }, 'npm http://example.com/'],
      [{ url: '' }, 'content'],
      [{ url: null, source: null }, 'unknown'],
      [{ url: undefined, source: undefined }, 'unknown'],
      [{ url: 'javascript:alert(1)' }, 'content'],
      [{ url: 'no url' }, 'content'],
      [{ url: 'https://user:secret@github.com/' }, 'content'],
      [{ url: long }, 'content'],
      [{ source: 'x\ny', url: '' }, 'unknown'],
      [{ url: 'https://github.com/\u0000\u202e<b>' }, 'content https://github.com/%00%E2%80%AE%3Cb%3E'],
      [{ url: 'https://github.com/TOKEN' }, 'content https://github.com/[redacted]'],
    ] as const) {
      const { token, id, organizationId } = await harness.build.platformToken();
      const filled = 'url' in more && more.url ? { ...more, url: more.url.replace('TOKEN', token) } : more;
      expect((await send(report(match(token, filled)))).status).toBe(200);
      const [event] = await events(id);
      expect(event).toMatchObject({
        actor_type: 'system',
        actor_id: 'github-secret-scanning',
        organization_id: organizationId,
        reason: `reported as leaked: ${reason}`,
      });
    }
  });

  it('may be signed by a key that is not the current one, and may be empty', async () => {
    const { token } = await harness.build.platformToken();
    const body = report(match(token));
    const headers = {
      'Github-Public-Key-Identifier': 'previous',
      'Github-Public-Key-Signature': signatureOf(body, previous),
    };
    expect((await send(body, headers)).body).toMatchObject([{ label: 'true_positive' }]);
    expect((await send(' [ ] ')).body).toEqual([]);
  });

  it('is kept out by no more than its own network’s slow ones, and by those for seconds only', {
    timeout: 30_000,
  }, async () => {
    const head = (identifier: string) =>
      [
        'POST /leaks/github HTTP/1.1',
        'Host: x',
        'Content-Type: application/json',
        `Github-Public-Key-Identifier: ${identifier}`,
        'Github-Public-Key-Signature: AAAA',
        'Content-Length: 1000',
        '',
        '[',
      ].join('\r\n');
    const slow = async (identifier: string) => {
      const socket = connect(Number(new URL(harness.url).port), '127.0.0.1');
      let received = '';
      socket.setEncoding('latin1').on('data', (text) => {
        received += text;
      });
      socket.write(head(identifier));
      return { socket, received: () => received };
    };
    // Nobody can have signed these: they are answered before their bodies are there.
    const unknown = await slow('unknown');
    await expect.poll(unknown.received).toMatch(/^HTTP\/1\.1 400 /);
    unknown.socket.destroy();

    const places = policy.leakReportsOfNetwork;
    const all = await Promise.all(Array.from({ length: places + 2 }, () => slow('current')));
    const statusOf = (answer: string) => /^HTTP\/1\.1 (\d+)/.exec(answer)?.[1];
    const answers = () => all.map(({ received }) => statusOf(received())).toSorted();
    await expect.poll(answers).toEqual(['503', '503', ...Array(places).fill(undefined)]);
    await expect.poll(answers).toEqual([...Array(places).fill('408'), '503', '503']);
    for (const { socket, received } of all) {
      expect(received()).toContain('application/problem+json');
      socket.destroy();
    }
    expect((await send('  [  ]  ')).status).toBe(200);
  });

  it('with a thousand tokens is answered at once', async () => {
    const { token } = await harness.build.platformToken();
    const many = Array.from({ length: 999 }, () => match(createPlatformToken('ptk').token));
    const { status, body } = await send(report(...many, match(token)));
    expect(status).toBe(200);
    expect((body as unknown as unknown[]).at(-1)).toMatchObject({ label: 'true_positive' });
  });

  it('whose processing failed may be sent again', async () => {
    const { token, id } = await harness.build.platformToken();
    const body = report(match(token));
    const { knex } = harness.database;
    // Another transaction holds the token until the statement timeout: 503, and nothing is kept.
    const holding = await knex.transaction();
    await holding('platform_tokens').where({ id }).forUpdate().select('id');
    await refused(send(body), 503);
    await holding.rollback();
    expect(await works(token)).toBe(true);
    expect((await send(body)).status).toBe(200);
    expect(await works(token)).toBe(false);
  });

  it('is forgotten after ninety days', async () => {
    const { leakReports } = harness.stores;
    const digest = randomBytes(32);
    const now = new Date();
    expect(await leakReports.record(digest, new Date(now.getTime() - 89 * 86_400_000))).toBe(true);
    await leakReports.deleteExpired(now);
    expect(await leakReports.record(digest, now)).toBe(false);
    await leakReports.deleteExpired(new Date(now.getTime() + 2 * 86_400_000));
    expect(await leakReports.record(digest, now)).toBe(true);
  });
});

it('keys are fetched once an instance, however many ask for known and unknown ones', async () => {
  const other = await harness.another();
  try {
    const before = fetches;
    const ask = (identifier: string) => send('[]', { 'Github-Public-Key-Identifier': identifier }, other.url);
    await Promise.all(Array.from({ length: 30 }, (_, index) => ask(index % 2 ? 'current' : `x${index}`)));
    await Promise.all(Array.from({ length: 10 }, (_, index) => ask(`y${index}`)));
    expect(fetches - before).toBe(1);
  } finally {
    await other.close();
  }
});
