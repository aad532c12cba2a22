#!/usr/bin/env node
import { parseArgs } from 'node:util';
import { ExchangeRefusedError, TemporaryError } from './errors.ts';
import type { Grant } from './exchange.ts';
import { createKeeper } from './keeper.ts';
import { readOptions } from './options.ts';

const help = `usage: platform-tokens exchange --issuer URL [options]

Exchanges a platform token for an access token, and prints that on standard output.
The platform token is read from PLATFORM_TOKEN or, without it, from standard input;
never from an argument, which every user of the machine could read.

  --issuer URL        the issuer, such as https://id.example.com
  --scope "A B"       fewer scopes than the platform token's
  --format FORMAT     token   the access token (default)
                      json    {"access_token": …, "token_type": "Bearer", "expires_in": …, "scope": …}
                      header  Authorization: Bearer …
                      env     ACCESS_TOKEN=…
  --max-wait SECONDS  how long to try through faults that pass (default 60)
  --help              this text

exit status: 0 exchanged, 1 the platform token is refused, 2 wrong usage,
             3 the server is away or overloaded: try again later
`;

const exitCodes = { exchanged: 0, dead: 1, usage: 2, temporary: 3, bug: 70 } as const;

class UsageError extends Error {}
class OutputError extends Error {}

const formats: Record<string, (grant: Grant) => string> = {
  token: ({ accessToken }) => accessToken,
  json: ({ accessToken, expiresIn, scope }) =>
    JSON.stringify({ access_token: accessToken, token_type: 'Bearer', expires_in: expiresIn, scope }),
  header: ({ accessToken }) => `Authorization: Bearer ${accessToken}`,
  env: ({ accessToken }) => `ACCESS_TOKEN=${accessToken}`,
};

async function main(args: readonly string[]): Promise<number> {
  try {
    const options = readArguments(args);
    if (options === 'help') {
      await print(help);
      return exitCodes.exchanged;
    }
    const platformToken = await readPlatformToken();
    const { issuer, scope, maxWaitMs } = options;
    // A request that goes on would keep the process after its last word.
    const requestTimeoutMs = Math.min(10_000, maxWaitMs);
    const settings = usage(() => readOptions({ issuer, scope, maxWaitMs, requestTimeoutMs, platformToken }));
    const grant = await createKeeper(settings).get();
    await print(`${options.format(grant)}\n`);
    return exitCodes.exchanged;
  } catch (error) {
    return complain(error);
  }
}

/** @throws {UsageError} which repeats no argument: one of them may be a secret */
function readArguments(args: readonly string[]) {
  refuseSecrets(args);
  if (args.includes('--help') || args.includes('-h')) return 'help';
  const { values, positionals } = usage(
    () =>
      parseArgs({
        args: [...args],
        allowPositionals: true,
        options: {
          issuer: { type: 'string' },
          scope: { type: 'string' },
          format: { type: 'string', default: 'token' },
          'max-wait': { type: 'string', default: '60' },
        },
      }),
    'an option is unknown, or lacks its value',
  );
  if (positionals.length !== 1 || positionals[0] !== 'exchange')
    throw new UsageError('the command is "exchange", and takes options alone');
  if (values.issuer === undefined) throw new UsageError('--issuer is missing');
  const format = Object.hasOwn(formats, values.format) ? formats[values.format] : undefined;
  if (!format) throw new UsageError(`--format must be one of ${Object.keys(formats).join(', ')}`);
  if (!/^[1-9]\d{0,4}$/.test(values['max-wait']))
    throw new UsageError('--max-wait must be a whole number of seconds, from 1');
  return {
    issuer: values.issuer,
    scope: values.scope,
    format,
    maxWaitMs: Number(values['max-wait']) * 1_000,
  };
}

function refuseSecrets(args: readonly string[]): void {
  const secret = /[A-Za-z][0-9A-Za-z]*_[0-9A-Za-z]{40,}|\beyJ[\w-]{10,}\.|^--?[\w-]*token\b/;
  if (!args.some((arg) => secret.test(arg))) return;
  throw new UsageError(
    'a token is no argument: it is in the list of processes and in the history of the shell now.\n' +
      'If it was a real one, delete it and generate another. Pass it by PLATFORM_TOKEN or on standard input',
  );
}

/** @throws {UsageError} there is none */
async function readPlatformToken(): Promise<string> {
  const fromEnvironment = process.env.PLATFORM_TOKEN?.trim();
  if (fromEnvironment) return fromEnvironment;
  if (process.stdin.isTTY) throw new UsageError('no platform token: set PLATFORM_TOKEN, or pipe it in');
  let text = '';
  for await (const chunk of process.stdin.setEncoding('utf8')) {
    text += chunk;
    if (text.length > 16 * 1024) throw new UsageError('what came on standard input is no platform token');
  }
  if (text.trim() === '')
    throw new UsageError('no platform token: PLATFORM_TOKEN and standard input are empty');
  return text.trim();
}

/** @throws {OutputError} nobody reads any more, or the disk is full */
function print(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => (error ? reject(new OutputError()) : resolve()));
  });
}

/** What throws because of how the command was called. */
function usage<T>(read: () => T, message?: string): T {
  try {
    return read();
  } catch (error) {
    throw new UsageError(message ?? (error as Error).message);
  }
}

function complain(error: unknown): number {
  const say = (text: string) => process.stderr.write(`platform-tokens: ${text}\n`);
  if (error instanceof UsageError) {
    say(`${error.message}\nSee platform-tokens --help`);
    return exitCodes.usage;
  }
  if (error instanceof TemporaryError) {
    say(error.message);
    return exitCodes.temporary;
  }
  if (error instanceof ExchangeRefusedError) {
    say(error.message);
    return error.code === 'invalid_scope' ? exitCodes.usage : exitCodes.dead;
  }
  say(error instanceof OutputError ? 'standard output cannot be written to' : 'met an unexpected fault');
  return exitCodes.bug;
}

// What goes wrong there is told to whoever writes; unheard, it would end the process as if the platform token were refused.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
// Not process.exit: what is on its way to a pipe would be cut.
process.exitCode = await main(process.argv.slice(2));
