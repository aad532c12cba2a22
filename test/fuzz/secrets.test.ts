import { expect, it } from 'vitest';
import { createSecretScanner } from './secrets.ts';

const secret = 'ptk_9aZ0bY1cX2dW3eV4fU5gT6hS7iR8jQ9kP0lO1mN2nM3oL4p';

it.each([
  ['as it is', secret],
  ['its end', `…${secret.slice(-15)}`],
  ['from the middle', `token ${secret.slice(17, 33)} cut`],
  [
    'percent-encoded',
    [...Buffer.from(secret)].map((byte) => (byte === 95 ? '%5F' : String.fromCharCode(byte))).join(''),
  ],
  ['in hexadecimal', Buffer.from(secret).toString('hex')],
  ['in base64', Buffer.from(secret).toString('base64')],
  ['in base64, after another byte', Buffer.from(`x${secret}`).toString('base64')],
  ['in base64, after two bytes', Buffer.from(`xx${secret}y`).toString('base64')],
  ['in Basic credentials', Buffer.from(`an-id:${secret}`).toString('base64')],
])('finds a secret %s', (_, text) => {
  const scanner = createSecretScanner();
  for (let other = 0; other < 1000; other += 1)
    scanner.add('other', `other-${other}-${'x'.repeat(other % 40)}`);
  scanner.add('token', secret);
  const found = scanner.scan(Buffer.from(`${'a line of the log '.repeat(50)}${text} and so on`));
  expect(found.map(({ kind }) => kind)).toContain('token');
  expect(JSON.stringify(found)).not.toContain(secret.slice(8, 24));
});

it('finds none where there is none', () => {
  const scanner = createSecretScanner();
  scanner.add('token', secret);
  expect(scanner.scan(Buffer.from(`${secret.slice(0, 11)} ${'a line of the log '.repeat(50)}`))).toEqual([]);
});
